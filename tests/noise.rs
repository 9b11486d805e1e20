//! Noise against torch's generators.
#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "tests")]

use half::{bf16, f16};
use qwen_gen::noise::{CpuGenerator, GeneratorDevice, randn};
use safetensors::{Dtype, SafeTensors};

fn fixture(name: &str) -> Vec<u8> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/rng");
    std::fs::read(format!("{folder}/{name}")).unwrap()
}

fn f32s(data: &[u8]) -> Vec<f32> {
    let (chunks, _) = data.as_chunks();
    chunks.iter().map(|&b| f32::from_le_bytes(b)).collect()
}

fn u16s(data: &[u8]) -> Vec<u16> {
    let (chunks, _) = data.as_chunks();
    chunks.iter().map(|&b| u16::from_le_bytes(b)).collect()
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|v| v.to_bits()).collect()
}

/// The numbers after `seed` and `_n` in a tensor's name.
fn seed_and_count(name: &str) -> (u64, usize) {
    let (_, rest) = name.split_once("seed").unwrap();
    let (seed, count) = rest.split_once("_n").unwrap();
    (seed.parse().unwrap(), count.parse().unwrap())
}

/// The largest difference, printed even when it is small enough.
fn assert_close(name: &str, actual: impl Iterator<Item = f32>, expected: &[f32], tolerance: f32) {
    let differences = actual.zip(expected).map(|(a, e)| (a - e).abs());
    // Not `max`, which passes over NaN.
    let difference = differences.fold(0.0, |most, d| if d <= most { most } else { d });
    println!("{name}: differs by at most {difference:e}");
    assert!(difference <= tolerance, "{name}: {difference:e}");
}

#[test]
fn cpu_noise_equals_torch() {
    let file = fixture("cpu_randn.safetensors");
    let tensors = SafeTensors::deserialize(&file).unwrap();
    assert_eq!(tensors.len(), 17);
    for (name, tensor) in tensors.tensors() {
        if name == "cpu_f32_seed0_two_calls" {
            let mut generator = CpuGenerator::new(0);
            let two_calls = [generator.randn(32), generator.randn(48)].concat();
            assert_eq!(bits(&two_calls), bits(&f32s(tensor.data())), "{name}");
            continue;
        }
        let (seed, n) = seed_and_count(&name);
        let actual = randn(GeneratorDevice::Cpu, seed, n);
        assert_eq!(actual.len(), n);
        match tensor.dtype() {
            Dtype::F32 if n < 16 => {
                assert_close(&name, actual.into_iter(), &f32s(tensor.data()), 1e-6);
            }
            Dtype::F32 => assert_eq!(bits(&actual), bits(&f32s(tensor.data())), "{name}"),
            Dtype::BF16 => {
                let rounded: Vec<u16> = actual
                    .into_iter()
                    .map(|v| bf16::from_f32(v).to_bits())
                    .collect();
                assert_eq!(rounded, u16s(tensor.data()), "{name}");
            }
            Dtype::F16 => {
                let rounded: Vec<u16> = actual
                    .into_iter()
                    .map(|v| f16::from_f32(v).to_bits())
                    .collect();
                assert_eq!(rounded, u16s(tensor.data()), "{name}");
            }
            other => panic!("{name}: {other:?}"),
        }
    }
}

#[test]
fn cpu_seed_counts_modulo_2_to_the_32() {
    assert_eq!(
        randn(GeneratorDevice::Cpu, (1 << 32) + 5, 64),
        randn(GeneratorDevice::Cpu, 5, 64)
    );
}

#[test]
fn cuda_noise_agrees_with_an_h100() {
    let file = fixture("cuda_randn.safetensors");
    let tensors = SafeTensors::deserialize(&file).unwrap();
    let mut compared = 0;
    for (name, tensor) in tensors.tensors() {
        if name.ends_with("_index") {
            continue;
        }
        let (seed, n) = seed_and_count(&name);
        let values = randn(GeneratorDevice::Cuda, seed, n);
        assert_eq!(values.len(), n);
        let index = tensors.tensor(&format!("{name}_index")).unwrap();
        let (index, _) = index.data().as_chunks();
        let chosen = index
            .iter()
            .map(|&b| values[usize::try_from(i64::from_le_bytes(b)).unwrap()]);
        assert_close(&name, chosen, &f32s(tensor.data()), 1e-6);
        compared += 1;
    }
    assert_eq!(compared, 4);
}
