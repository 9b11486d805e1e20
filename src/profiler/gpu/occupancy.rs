//! How many blocks of a kernel a multiprocessor holds at once: the rules of `cuda_occupancy.h` for
//! compute capability 7.0 and up.

use crate::profiler::trace::{DeviceProperties, Kernel};

/// Registers are given to warps in units of this many.
const REGISTER_UNIT: u32 = 256;
/// A multiprocessor's registers lie in this many parts, and a warp's in one of them.
const PARTITIONS: u32 = 4;

/// Blocks that fit; 0 when even one does not, or the device is unknown.
pub(super) fn resident_blocks(device: &DeviceProperties, kernel: &Kernel) -> u32 {
    let threads = kernel.block.iter().product::<u32>();
    if threads == 0 || device.warp_size == 0 {
        return 0;
    }
    let warps = threads.div_ceil(device.warp_size);
    let by_warps = device.max_threads_per_multiprocessor / device.warp_size / warps;
    by_warps
        .min(device.max_blocks_per_multiprocessor)
        .min(by_registers(device, kernel.registers, warps))
        .min(by_shared_memory(device, kernel.shared_bytes))
}

fn by_registers(device: &DeviceProperties, registers: u32, warps: u32) -> u32 {
    let of_a_warp = (registers * device.warp_size).next_multiple_of(REGISTER_UNIT);
    if of_a_warp == 0 {
        return u32::MAX;
    }
    let in_a_partition = device.regs_per_multiprocessor / PARTITIONS / of_a_warp;
    in_a_partition * PARTITIONS / warps
}

fn by_shared_memory(device: &DeviceProperties, shared_bytes: u32) -> u32 {
    let unit = if device.compute_major >= 8 { 128 } else { 256 };
    let of_a_block = (shared_bytes + device.reserved_shared_mem_per_block).next_multiple_of(unit);
    (device.shared_mem_per_multiprocessor)
        .checked_div(of_a_block)
        .unwrap_or(u32::MAX)
}

/// Sets what follows from a launch's size and resources.
pub(super) fn derive(device: &DeviceProperties, kernel: &mut Kernel) {
    let threads = f64::from(kernel.block.iter().product::<u32>());
    let blocks: f64 = kernel.grid.iter().map(|&n| f64::from(n)).product();
    let (sms, warp) = (f64::from(device.num_sms), f64::from(device.warp_size));
    if sms <= 0.0 || warp <= 0.0 {
        return;
    }
    kernel.blocks_per_sm = blocks / sms;
    kernel.warps_per_sm = kernel.blocks_per_sm * threads / warp;
    let resident = f64::from(resident_blocks(device, kernel)).min(kernel.blocks_per_sm);
    let share = resident * threads / f64::from(device.max_threads_per_multiprocessor.max(1));
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "from 0 to 100"
    )]
    let percent = (share * 100.0).round().clamp(0.0, 100.0) as u32;
    kernel.occupancy_pct = percent;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profiler::testing::{h100, kernel};

    #[test]
    fn each_resource_limits_the_blocks() {
        // Threads of a block, registers, shared bytes; what NVIDIA's calculator says for 9.0.
        for (threads, registers, shared_bytes, blocks) in [
            (1024, 32, 0, 2),
            (256, 32, 0, 8),
            (32, 16, 0, 32),
            (256, 64, 0, 4),
            (256, 255, 0, 1),
            (384, 168, 221_460, 1),
            (128, 32, 48 << 10, 4),
            (128, 32, 0, 16),
            (96, 40, 0, 16),
        ] {
            let mut kernel = kernel("k");
            kernel.block = [threads, 1, 1];
            kernel.registers = registers;
            kernel.shared_bytes = shared_bytes;
            let found = resident_blocks(&h100(), &kernel);
            assert_eq!(found, blocks, "{threads} {registers} {shared_bytes}");
        }
    }

    #[test]
    fn a_grid_too_small_for_the_device_leaves_it_idle() {
        let mut kernel = kernel("k");
        kernel.block = [256, 1, 1];
        kernel.registers = 32;
        kernel.shared_bytes = 0;
        for (blocks, per_sm, occupancy_pct) in [(66, 0.5, 6), (132, 1.0, 13), (132 * 20, 20.0, 100)]
        {
            kernel.grid = [blocks, 1, 1];
            derive(&h100(), &mut kernel);
            assert!((kernel.blocks_per_sm - per_sm).abs() < 1e-9);
            assert!((kernel.warps_per_sm - 8.0 * per_sm).abs() < 1e-9);
            assert_eq!(kernel.occupancy_pct, occupancy_pct);
        }
        derive(&DeviceProperties::default(), &mut kernel);
    }
}
