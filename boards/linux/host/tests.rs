use super::budget::VARIES;
use super::*;
use crate::refusal::Refusal;
use crate::{Cpus, LimitSource};
use std::path::{Path, PathBuf};
use wick_core::{HeadRows, OptionsError, Plan, StoreError, StoreReason};
use wick_format::Overrides;

/// A file of the project's tests.
fn file(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests").join(path)
}

fn nano() -> Files {
    Files::open(&file("models/nano/nano.gguf")).unwrap()
}

/// A limit of `whole` bytes in a process that has taken nothing.
fn budget(whole: usize) -> Budget {
    Budget { whole, taken: 0, source: Source::Option }
}

/// The placement of a model for a context of 128.
fn place(model: &Model<'_>, whole: usize) -> Result<Placement, HostError> {
    let options = one_sequence(&model.config, Some(128));
    Placement::choose(model, options, Some(&budget(whole)), false)
}

fn shortage(model: &Model<'_>, whole: usize) -> Shortage {
    match place(model, whole) {
        Err(HostError::Shortage(shortage)) => *shortage,
        other => panic!("a shortage expected, {other:?} found"),
    }
}

#[test]
fn experts_stand_in_memory_if_they_fit() {
    let files = nano();
    let model = files.model(Overrides::default()).unwrap();
    let Placement { options, plan, catalogue } = place(&model, 1 << 30).unwrap();
    assert!(catalogue.is_none() && plan.slots == 0);
    assert_eq!((options.context, options.batch), (128, BATCH));
    assert_eq!(plan.weights, model.weights.bytes());
}

#[test]
fn the_least_budget_is_just_enough() {
    let files = nano();
    let model = files.model(Overrides::default()).unwrap();
    let Shortage { footprint, least, .. } = shortage(&model, 1 << 20);
    let needed = footprint.total;
    let Placement { plan, catalogue, .. } = place(&model, needed).unwrap();
    let slot_bytes = catalogue.unwrap().slot_bytes();
    assert!((least.slots..least.slots + slot_bytes + VARIES).contains(&plan.slots));
    assert!(plan.total() <= budget(needed).bytes());
    // The margin is rounded by less than this.
    assert_eq!(shortage(&model, needed - VARIES - 16384).footprint.total, needed);
    // Another process may have taken a little more when it is at the same point.
    let Budget { taken, .. } = budget(needed);
    let other = Budget { taken: taken + VARIES - 4096, ..budget(needed) };
    let options = one_sequence(&model.config, Some(128));
    assert!(Placement::choose(&model, options, Some(&other), false).is_ok());
}

#[test]
fn batches_grow_with_the_budget_of_a_streamed_model() {
    let files = nano();
    let model = files.model(Overrides::default()).unwrap();
    let options = one_sequence(&model.config, Some(512));
    let whole = Plan::new(&model.config, &model.weights, &options).unwrap().total();
    let least = shortage(&model, 1 << 20).footprint.total;
    for whole in [least + (1 << 20), whole + (14 << 20)] {
        let placement = Placement::choose(&model, options, Some(&budget(whole)), false).unwrap();
        assert!(placement.catalogue.is_some());
        assert!(placement.plan.total() <= budget(whole).bytes());
        let (batch, scratch) = (placement.options.batch, placement.plan.scratch);
        assert!(batch == BATCH || scratch <= budget(whole).bytes() / 24, "{batch}: {scratch}");
    }
}

#[test]
fn a_built_in_model_has_no_experts_to_read() {
    let bytes = Box::leak(std::fs::read(file("models/nano/nano.gguf")).unwrap().into_boxed_slice());
    let files = Files::built_in("nano", bytes);
    let model = files.model(Overrides::default()).unwrap();
    assert_eq!((files.name(), files.parts().len()), ("nano", 0));
    let Shortage { least, .. } = shortage(&model, 1 << 20);
    assert_eq!((least.slots, least.weights), (0, model.weights.bytes()));
    with_engine(&model, one_sequence(&model.config, None), &Setup::default(), |engine, _| {
        assert!(engine.expert_figures().is_none());
        Ok::<_, HostError>(())
    })
    .unwrap();
}

#[test]
fn models_take_turns_on_a_thread() {
    let cpus = Cpus::detect();
    let setup = Setup { memory: Some(1 << 34), ..Setup::default() };
    for name in ["q8_0.gguf", "split-00002-of-00002.gguf", "q4_0-tied.gguf"] {
        let files = Files::open(&file("golden").join(name)).unwrap();
        let model = files.model(Overrides::default()).unwrap();
        let options = one_sequence(&model.config, Some(16));
        let threads = with_engine(&model, options, &setup, |engine, _| {
            assert_eq!(engine.config().vocab, model.config.vocab);
            Ok::<_, HostError>(engine.parallel().threads())
        });
        assert_eq!(threads.unwrap(), setup.thread_count(&cpus), "{name}");
        assert_eq!(Cpus::detect(), cpus, "{name}: the thread is bound no longer");
    }
}

#[test]
fn an_error_of_the_work_comes_through() {
    let files = nano();
    let model = files.model(Overrides::default()).unwrap();
    let options = one_sequence(&model.config, Some(16));
    let error = StoreError { at: None, file: 0, offset: 7, reason: StoreReason::Changed };
    let failed =
        with_engine(&model, options, &Setup::default(), |_, _| Err::<(), _>(files.unread(error)));
    let expected = format!("{}: {error}", files.name());
    assert_eq!(failed.unwrap_err().to_string(), expected);
}

#[test]
fn errors_say_what_and_where() {
    let error = Files::open(Path::new("/nowhere/model.gguf")).unwrap_err().to_string();
    assert_eq!(error, "/nowhere/model.gguf: No such file or directory (os error 2)");
    let path = file("golden/index.json");
    let error = Files::open(&path).unwrap().parse().err().unwrap().to_string();
    assert!(error.starts_with(&format!("{}: ", path.display())), "{error}");

    let files = nano();
    let model = files.model(Overrides::default()).unwrap();
    let options = one_sequence(&model.config, Some(0));
    let error = Placement::choose(&model, options, None, false).unwrap_err();
    assert!(matches!(error, HostError::Options(OptionsError::Range { what: "context", .. })));
    let options = one_sequence(&model.config, None);
    let error = Placement::choose(&model, options, Some(&budget(17 << 20)), true).unwrap_err();
    let expected = "no low-bit copies of experts: pack the model with --low-bit";
    assert_eq!(error.to_string(), format!("{}: {expected}", files.name()));
    let error = HostError::Packed {
        file: "a.gguf".into(),
        packed: HeadRows::Exact,
        wanted: HeadRows::Coarse,
    };
    assert_eq!(
        error.to_string(),
        "a.gguf: the file is packed for --output exact: run it with that, or pack it again with \
         --output coarse"
    );
    let error = HostError::Arena(Refusal::check(1 << 60).unwrap_err());
    let expected = "KV cache and scratch: the system refuses 1099511627776.0 MiB of memory";
    assert!(error.to_string().starts_with(expected), "{error}");
    assert!(error.is_of_memory());
}

#[test]
fn a_shortage_is_told_in_numbers() {
    let least = Plan {
        weights: 3 << 20,
        kv: 1 << 20,
        scratch: 1 << 19,
        sampler: 1 << 19,
        slots: 2 << 20,
        lent: 0,
    };
    let budget =
        Budget { whole: 5 << 20, taken: 1 << 20, source: Source::System(LimitSource::Cgroup) };
    let shortage = budget.shortage(least, 1 << 20, 99);
    assert_eq!(
        shortage.to_string(),
        "control group is 5.0 MiB, but 23.6 MiB (24186K) is the least that would do: weights 3.0 MiB, \
         KV cache for a context of 99 1.0 MiB, scratch 1.0 MiB, expert slots 2.0 MiB, the program 16.6 \
         MiB; allow more memory or ask for a smaller --context"
    );
}

/// What a process has a little more of before its second model than before its first is of what is kept free.
#[test]
fn a_model_that_had_room_has_it_again() {
    let mib = 1 << 20;
    let budget = Budget { taken: 20 * mib, ..budget(64 * mib) };
    assert_eq!(budget.again(None), budget);
    for (first, taken) in [(18, 18), (16, 16), (15, 20), (20, 20), (30, 20)] {
        assert_eq!(budget.again(Some(first * mib)).taken, taken * mib, "{first}");
    }
}
