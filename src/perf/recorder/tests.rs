#![expect(clippy::unwrap_used, reason = "tests")]

use std::thread::sleep;

use candle_core::DType;

use super::*;

/// Two requests of two steps each, as the pipeline would tell them.
fn observed() -> PerfRecorder {
    let latents = Tensor::zeros(1, DType::F32, &Device::Cpu).unwrap();
    let mut recorder = PerfRecorder::new(&Device::Cpu, Instant::now());
    recorder.load_begin("vae").unwrap();
    sleep(Duration::from_millis(2));
    recorder.load_end("vae", 1234).unwrap();
    for _ in 0..2 {
        recorder.request_begin().unwrap();
        for stage in Stage::ALL {
            recorder.stage_begin(stage).unwrap();
            for step in (0..2).filter(|_| stage == Stage::Denoising) {
                recorder.step_begin(step, 1.0).unwrap();
                sleep(Duration::from_millis(3));
                recorder.step_end(step, &latents).unwrap();
            }
            recorder.stage_end(stage).unwrap();
        }
        recorder.request_end().unwrap();
        recorder.close_request(None).unwrap();
    }
    recorder
}

fn finish(recorder: PerfRecorder) -> PerfReport {
    let run = RunFacts {
        commit_hash: "abc".into(),
        device: "cpu".into(),
        model: "builtin:tiny".into(),
    };
    let facts = |index| RequestFacts {
        request_id: format!("id:{index}"),
        prompt: None,
    };
    recorder.finish(run, facts)
}

#[test]
fn every_stage_step_and_load_is_reported_once() {
    let report = finish(observed());
    assert_eq!(report.load[0].0, "vae");
    assert_eq!(report.load[0].1.bytes, 1234);
    assert!(report.load[0].1.duration_ms >= 2.0);
    assert!(report.cold_start_ms >= report.load[0].1.duration_ms);
    assert_eq!(report.requests.len(), 1);
    assert_eq!(report.requests[0].record.request_id, "id:1");
    for record in [&report.first, &report.requests[0].record] {
        let stages: Vec<_> = record.stages.iter().map(|stage| stage.name).collect();
        assert_eq!(stages, Stage::ALL.map(Stage::name));
        let steps: Vec<_> = record.denoise_steps_ms.iter().map(|s| s.step).collect();
        assert_eq!(steps, [0, 1]);
        record.timestamp.parse::<Timestamp>().unwrap();
        assert_eq!(
            record.timestamp.len(),
            "2026-01-02T03:04:05.678901+00:00".len()
        );
    }
}

#[test]
fn steps_add_up_to_denoising_and_stages_to_the_total() {
    let record = finish(observed()).first;
    let stages: f64 = record.stages.iter().map(|stage| stage.duration_ms).sum();
    let steps: f64 = record.denoise_steps_ms.iter().map(|s| s.duration_ms).sum();
    let denoising = record.stages[4].duration_ms;
    assert!(record.denoise_steps_ms.iter().all(|s| s.duration_ms >= 3.0));
    assert!(steps <= denoising && denoising - steps < 5.0);
    assert!(stages <= record.total_duration_ms && record.total_duration_ms - stages < 5.0);
}

#[test]
fn what_is_loaded_between_stages_counts_as_loading() {
    let mut recorder = PerfRecorder::new(&Device::Cpu, Instant::now());
    recorder.request_begin().unwrap();
    for stage in [Stage::Denoising, Stage::Decoding] {
        recorder.load_begin("vae").unwrap();
        sleep(Duration::from_millis(30));
        recorder.load_end("vae", 100).unwrap();
        recorder.stage_begin(stage).unwrap();
        recorder.stage_end(stage).unwrap();
    }
    recorder.close_request(None).unwrap();
    let report = finish(recorder);
    assert!(report.first.total_duration_ms < 30.0);
    let [("vae", load)] = &report.load[..] else {
        panic!("{:?}", report.load)
    };
    assert_eq!(load.bytes, 200);
    assert!(load.duration_ms >= 60.0);
}

#[test]
fn a_save_belongs_to_the_present_request() {
    let mut recorder = observed();
    recorder.request_begin().unwrap();
    let save = Duration::from_millis(7);
    recorder.close_request(Some(save)).unwrap();
    let report = finish(recorder);
    assert_eq!(report.save_ms, None);
    assert_eq!(report.requests[0].save_ms, None);
    assert_eq!(report.requests[1].save_ms, Some(7.0));
}

#[test]
fn a_warm_up_ends_the_cold_start() {
    let mut recorder = PerfRecorder::new(&Device::Cpu, Instant::now());
    recorder.end_cold_start();
    sleep(Duration::from_millis(20));
    recorder.request_begin().unwrap();
    recorder.stage_begin(Stage::InputValidation).unwrap();
    recorder.stage_end(Stage::InputValidation).unwrap();
    recorder.close_request(None).unwrap();
    assert!(finish(recorder).cold_start_ms < 20.0);
}
