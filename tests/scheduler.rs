//! Schedules against diffusers', bit for bit.
#![expect(clippy::unwrap_used, reason = "tests")]

use qwen_gen::config::scheduler::SchedulerConfig;
use qwen_gen::scheduler::{FlowMatchSchedule, mu};
use serde::Deserialize;
use serde_json::Value;

const FIXTURES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures");

#[derive(Deserialize)]
struct Table {
    config: String,
    width: usize,
    height: usize,
    steps: usize,
    image_seq_len: usize,
    mu: f64,
    /// Numbers, or "nan".
    sigmas: Vec<Value>,
    timesteps: Vec<Value>,
}

fn config(name: &str) -> SchedulerConfig {
    let json = std::fs::read(format!(
        "{FIXTURES}/checkpoints/tiny-a/scheduler/scheduler_config.json"
    ))
    .unwrap();
    let qwen_image = SchedulerConfig::from_json(&json).unwrap();
    match name {
        "qwen-image" => qwen_image,
        "lightning" => SchedulerConfig {
            base_shift: 3_f64.ln(),
            max_shift: 3_f64.ln(),
            shift_terminal: None,
            ..qwen_image
        },
        other => panic!("unknown config {other}"),
    }
}

/// The values written in a table; `None` if one of them is "nan".
#[expect(
    clippy::cast_possible_truncation,
    reason = "float32 values, printed exactly"
)]
fn bits(values: &[Value]) -> Option<Vec<u32>> {
    values
        .iter()
        .map(|v| v.as_f64().map(|v| (v as f32).to_bits()))
        .collect()
}

fn to_bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|v| v.to_bits()).collect()
}

#[test]
fn schedules_equal_diffusers() {
    let json = std::fs::read(format!("{FIXTURES}/scheduler/tables.json")).unwrap();
    let tables: Vec<Table> = serde_json::from_slice(&json).unwrap();
    assert_eq!(tables.len(), 28);
    for table in tables {
        let name = format!(
            "{} {}x{} {} steps",
            table.config, table.width, table.height, table.steps
        );
        let config = config(&table.config);
        assert!(
            (mu(&config, table.image_seq_len) - table.mu).abs() < 1e-15,
            "{name}"
        );
        let schedule = FlowMatchSchedule::new(&config, table.image_seq_len, table.steps).unwrap();
        if table.config == "lightning" {
            let shifted = self::config("qwen-image").with_flow_shift(3.0);
            let shifted = FlowMatchSchedule::new(&shifted, table.image_seq_len, table.steps);
            assert_eq!(shifted.unwrap(), schedule, "{name}");
        }
        if let Some(sigmas) = bits(&table.sigmas) {
            assert_eq!(to_bits(&schedule.sigmas), sigmas, "{name}");
            assert_eq!(
                Some(to_bits(&schedule.timesteps)),
                bits(&table.timesteps),
                "{name}"
            );
        } else {
            // diffusers divides zero by zero when a terminal shift meets a single step.
            assert_eq!(table.steps, 1, "{name}");
            assert_eq!(schedule.sigmas, [1.0, 0.0], "{name}");
        }
    }
}
