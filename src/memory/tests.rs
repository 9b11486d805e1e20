//! The choice of a plan, on the sizes of Qwen-Image at 1024x1024.

#![expect(clippy::unwrap_used, reason = "tests")]

use super::*;

const GIB: u64 = 1 << 30;
const MIB: u64 = 1 << 20;

const QWEN_IMAGE: Footprint = Footprint {
    text_encoder: 13_490 * MIB,
    text_passing: 1036 * MIB,
    texts: MIB,
    layers: 60,
    blocks: 25_758 * MIB,
    block: 432 * MIB,
    blocks_in_flight: 4 * 432 * MIB,
    rest: 50 * MIB,
    passing: 432 * MIB,
    vae: 140 * MIB,
    work: Workload {
        text_encoding: 20 * MIB,
        denoising: 400 * MIB,
        decoding: 1100 * MIB,
        decoding_in_bands: 280 * MIB,
    },
};

fn gpu(gib: u64) -> Budget {
    Budget {
        on_gpu: true,
        free: gib * GIB,
        reserve: 0,
        host_free: 64 * GIB,
    }
}

fn cpu(gib: u64) -> Budget {
    Budget {
        on_gpu: false,
        host_free: gib * GIB,
        ..gpu(gib)
    }
}

fn plan(choices: OffloadChoices, budget: Budget) -> Result<MemoryPlan> {
    MemoryPlan::new(QWEN_IMAGE, choices, budget)
}

/// The letters of what leaves: text encoder, dit, layerwise, vae, bands.
fn letters(offload: Offload) -> String {
    let switches = [
        (offload.text_encoder, 't'),
        (offload.dit, 'd'),
        (offload.dit_streamed_blocks > 0, 'l'),
        (offload.vae, 'v'),
        (offload.vae_tiling, 'b'),
    ];
    (switches.into_iter())
        .filter_map(|(on, letter)| on.then_some(letter))
        .collect()
}

const AUTO: OffloadChoices = OffloadChoices {
    mode: PerformanceMode::Auto,
    text_encoder: None,
    dit: None,
    dit_layerwise: None,
    vae: None,
    vae_tiling: None,
};

#[test]
fn the_first_choice_that_fits_is_taken() {
    let with_mode = |mode| OffloadChoices { mode, ..AUTO };
    let memory = with_mode(PerformanceMode::Memory);
    let almost = |budget: Budget| Budget {
        free: budget.free - 324 * MIB,
        ..budget
    };
    for (choices, budget, expected) in [
        (AUTO, gpu(80), ""),
        (AUTO, gpu(48), ""),
        (AUTO, gpu(32), "t"),
        (AUTO, gpu(26), "tb"),
        (AUTO, gpu(24), "tl"),
        (AUTO, gpu(15), "tl"),
        (AUTO, cpu(48), ""),
        (AUTO, cpu(32), "t"),
        (AUTO, cpu(26), "tb"),
        // As the mode that takes least.
        (AUTO, almost(cpu(26)), "tdv"),
        (with_mode(PerformanceMode::Speed), gpu(48), ""),
        (memory, gpu(80), "tlv"),
        // Blocks are where they would wait.
        (memory, cpu(48), "tdv"),
        (memory, cpu(26), "tdv"),
    ] {
        let taken = plan(choices, budget).unwrap();
        assert_eq!(letters(taken.offload), expected, "{choices:?} {budget:?}");
        assert!(taken.worst().1 <= budget.usable());
    }
}

#[test]
fn no_more_blocks_stream_than_must() {
    let streams = OffloadChoices {
        dit_layerwise: Some(true),
        ..AUTO
    };
    let memory = OffloadChoices {
        mode: PerformanceMode::Memory,
        ..AUTO
    };
    for (choices, budget, blocks) in [
        (AUTO, gpu(26), 0),
        (AUTO, gpu(24), 9),
        (AUTO, gpu(16), 28),
        // Asked for: all.
        (streams, gpu(24), 60),
        (memory, gpu(80), 60),
    ] {
        let plan = plan(choices, budget).unwrap();
        assert_eq!(plan.offload.dit_streamed_blocks, blocks, "{budget:?}");
        let staying = (60 - blocks as u64) * 432 * MIB;
        let pinned = QWEN_IMAGE.blocks.saturating_sub(staying);
        assert_eq!(plan.pinned(), if blocks == 0 { 0 } else { pinned });
    }
}

#[test]
fn switches_of_the_user_hold() {
    let streams = OffloadChoices {
        dit_layerwise: Some(true),
        ..AUTO
    };
    let stays = OffloadChoices {
        text_encoder: Some(false),
        ..AUTO
    };
    let comes_and_goes = OffloadChoices {
        dit: Some(true),
        ..AUTO
    };
    let whole_picture = OffloadChoices {
        mode: PerformanceMode::Memory,
        vae_tiling: Some(false),
        ..AUTO
    };
    for (choices, budget, expected) in [
        (streams, gpu(80), "l"),
        (streams, gpu(15), "tl"),
        (stays, gpu(24), "l"),
        (comes_and_goes, gpu(80), "d"),
        (comes_and_goes, gpu(32), "td"),
        (whole_picture, gpu(80), "tlv"),
    ] {
        let taken = plan(choices, budget).unwrap();
        assert_eq!(letters(taken.offload), expected, "{choices:?} {budget:?}");
    }
}

#[test]
fn what_cannot_be_is_refused_with_the_numbers() {
    let refused = |choices, budget| plan(choices, budget).unwrap_err().to_string();
    let speed = OffloadChoices {
        mode: PerformanceMode::Speed,
        ..AUTO
    };
    let streams = OffloadChoices {
        dit_layerwise: Some(true),
        ..AUTO
    };
    assert!(
        refused(speed, gpu(32)).contains("DecodingStage needs 39.59 GiB, the GPU has 32.00 GiB")
    );
    assert!(refused(AUTO, gpu(8)).contains("TextEncodingStage needs"));
    assert!(refused(AUTO, cpu(16)).contains("this machine has 16.00 GiB"));
    assert!(refused(streams, cpu(64)).starts_with("--dit-layerwise-offload:"));
    let little_host = Budget {
        host_free: 8 * GIB,
        ..gpu(16)
    };
    assert!(refused(AUTO, little_host).contains("11.65 GiB of pinned host memory, 8.00 GiB"));
}

#[test]
fn a_rehearsal_needs_room_and_networks_that_stay() {
    let rehearsal = Footprint {
        text_encoder: 1600 * MIB,
        blocks: 860 * MIB,
        ..QWEN_IMAGE
    };
    assert!(rehearsal.total() > 4 * GIB && rehearsal.total() < 7 * GIB);
    for (budget, expected) in [
        (gpu(80), true),
        (gpu(48), true),
        (gpu(40), false),
        (gpu(32), false),
        (cpu(80), false),
    ] {
        let plan = plan(AUTO, budget).unwrap();
        assert_eq!(plan.has_room_for(&rehearsal), expected, "{budget:?}");
    }
}

/// An H100 held 2.2 GiB, its blocks not all whole at the same time.
#[test]
fn streaming_counts_the_blocks_that_are_read() {
    let plan = plan(
        OffloadChoices {
            mode: PerformanceMode::Memory,
            ..AUTO
        },
        gpu(16),
    )
    .unwrap();
    let [_, (stage, denoising), _] = plan.peaks();
    assert_eq!(stage, Stage::Denoising);
    assert!((2200 * MIB..2700 * MIB).contains(&denoising), "{denoising}");
}

#[test]
fn memory_that_ran_out_is_told_with_the_plan() {
    let plan = plan(OffloadChoices::default(), gpu(80)).unwrap();
    let error = plan.explain(Error::OutOfMemory {
        message: "it is full".to_owned(),
        hint: "ask for less".to_owned(),
    });
    assert!(error.to_string().ends_with("it is full"), "{error}");
    assert_eq!(error.hint(), Some(&*format!("ask for less\n{plan}")));
}
