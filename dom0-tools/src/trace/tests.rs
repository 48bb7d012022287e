//! Tests of the converter, with valid traces and with arbitrary ones.

use alloc::string::{String, ToString};
use alloc::vec::Vec;

use guest_pv_abi::trace::*;
use proptest::prelude::*;
use serde_json::Value;

use super::records::{Fault, window};
use super::{Parsed, chrome, parse};
use crate::hyper::DomId;
use crate::ops::view::Names;

struct NoNames;

impl Names for NoNames {
    fn name(&self, id: DomId) -> String {
        alloc::format!("\"{id}\"\u{1}\n")
    }
}

/// A record that has a time.
fn record(event: u32, tsc: u64, data: &[u32]) -> Vec<u32> {
    let header = TRC_HD_CYCLE_FLAG | (data.len() as u32) << TRACE_EXTRA_SHIFT | event;
    [header, tsc as u32, (tsc >> 32) as u32]
        .into_iter()
        .chain(data.iter().copied())
        .collect()
}

fn windows(windows: &[(u32, Vec<u32>)]) -> Vec<u8> {
    let words = windows.iter().flat_map(|(cpu, words)| {
        window(*cpu, words.len() as u32 * 4)
            .into_iter()
            .chain(words.iter().copied())
    });
    words.flat_map(u32::to_le_bytes).collect()
}

/// The events of the JSON, at 1 MHz.
fn converted(parsed: Parsed) -> Vec<Value> {
    let mut text = String::new();
    chrome::write(parsed.records, 1000, &NoNames, &mut |piece| {
        text.push_str(piece)
    });
    let json: Value = serde_json::from_str(&text).unwrap();
    json["traceEvents"].as_array().unwrap().clone()
}

fn of_kind<'a>(events: &'a [Value], kind: &str) -> Vec<&'a Value> {
    events.iter().filter(|event| event["ph"] == kind).collect()
}

#[test]
fn a_domain_wakes_another() {
    let change = |old: u32, new: u32| TRC_SCHED_RUNSTATE_CHANGE | old << 8 | new << 4;
    let (ours, theirs, idle) = (0, 0x0001_0002, 0x7fff_0001);
    let first = [
        record(change(1, 0), 100, &[ours]),
        record(TRC_PV_HYPERCALL_V2, 110, &[32 | 1 << 20, 4]),
        record(TRC_SCHED_WAKE, 120, &[1, 2]),
        record(
            TRC_PV_PAGE_FAULT | TRC_64_FLAG,
            130,
            &[0x1000, 0, 0x2000, 0xffff_8000, 6],
        ),
        record(change(0, 2), 140, &[ours]),
    ];
    let second = [
        record(change(0, 1), 125, &[idle]),
        record(change(1, 0), 125, &[theirs]),
        record(
            TRC_PV_TRAP | TRC_64_FLAG,
            150,
            &[0, 1, 13 | 1 << 15 | 8 << 16],
        ),
    ];
    let bytes = windows(&[(1, second.concat()), (0, first.concat())]);
    let parsed = parse(&bytes, 100).unwrap();
    assert_eq!(
        (parsed.records.len(), parsed.is_cut, parsed.is_full),
        (8, false, false)
    );
    let events = converted(parsed);

    let slices: Vec<_> = of_kind(&events, "X")
        .iter()
        .map(|it| {
            (
                it["name"].to_string(),
                it["pid"].clone(),
                it["tid"].clone(),
                it["ts"].clone(),
                it["dur"].clone(),
            )
        })
        .collect();
    let slice = |name: &str, pid: u32, tid: u32, ts: f64, dur: f64| {
        (
            alloc::format!("\"{name}\""),
            pid.into(),
            tid.into(),
            ts.into(),
            dur.into(),
        )
    };
    let expected = [
        slice("d0v0", 1, 0, 0.0, 40.0),
        slice("CPU 0", 2, 0, 0.0, 40.0),
        slice("d1v2", 1, 1, 25.0, 25.0),
        slice("CPU 1", 3, 2, 25.0, 25.0),
    ];
    assert_eq!(slices, expected);
    let [from, to] = ["s", "f"].map(|kind| of_kind(&events, kind)[0].clone());
    assert_eq!(
        (&from["tid"], &from["id"], &to["tid"]),
        (&0.into(), &to["id"], &1.into())
    );
    let moments: Vec<_> = of_kind(&events, "i")
        .iter()
        .map(|it| it["name"].to_string())
        .collect();
    assert_eq!(moments, ["\"event_channel_op\"", "\"#PF\"", "\"#GP\""]);
    assert_eq!(
        of_kind(&events, "i")[1]["args"]["address"],
        "0xffff800000002000"
    );
    let names = of_kind(&events, "M");
    assert!(
        names
            .iter()
            .any(|it| it["args"]["name"] == "domain 1 \"1\"\u{1}\n")
    );
}

#[test]
fn what_is_cut_and_what_can_not_be() {
    let whole = windows(&[(0, record(TRC_SCHED_WAKE, 1, &[1, 2]))]);
    for cut in 0..whole.len() {
        let parsed = parse(&whole[..cut], 10).unwrap();
        assert_eq!(
            (parsed.records.len(), parsed.is_cut),
            (0, cut != 0),
            "{cut}"
        );
    }
    let fault = |bytes: &[u8]| parse(bytes, 10).map_err(|Fault { at, .. }| at);
    assert_eq!(fault(&whole[12..]), Err(0));
    assert_eq!(fault(&windows(&[(4096, Vec::new())])), Err(0));
    assert_eq!(fault(&windows(&[(0, [0].to_vec())])), Err(12));
    let nested = window(0, 0).to_vec();
    assert_eq!(fault(&windows(&[(0, nested)])), Err(12));
    let filler = [TRC_TRACE_WRAP_BUFFER | 2 << TRACE_EXTRA_SHIFT, 1, 2].to_vec();
    assert_eq!(parse(&windows(&[(0, filler)]), 10), Ok(Parsed::default()));
    let two = parse(&[whole.clone(), whole].concat(), 1).unwrap();
    assert_eq!((two.records.len(), two.is_full), (1, true));
}

/// Events that the converter knows, and arbitrary ones.
fn event() -> impl Strategy<Value = u32> {
    let known = prop::sample::select(alloc::vec![
        TRC_SCHED_WAKE,
        TRC_PV_HYPERCALL_V2,
        TRC_PV_HYPERCALL_SUBCALL,
        TRC_PV_TRAP,
        TRC_PV_TRAP | TRC_64_FLAG,
        TRC_PV_PAGE_FAULT,
        TRC_PV_PAGE_FAULT | TRC_64_FLAG,
        TRC_HW_IRQ_HANDLED,
        TRC_LOST_RECORDS,
        TRC_DOM0_DOM_ADD,
        TRC_TRACE_WRAP_BUFFER,
        TRC_GUEST | 5,
    ]);
    let runstate =
        (0..4_u32, 0..4_u32).prop_map(|(old, new)| TRC_SCHED_RUNSTATE_CHANGE | old << 8 | new << 4);
    prop_oneof![3 => known, 3 => runstate, 1 => 1..1_u32 << 28]
}

fn word() -> impl Strategy<Value = u32> {
    prop_oneof![
        0..4_u32,
        (0..3_u32, 0..3_u32).prop_map(|(d, v)| d << 16 | v),
        any::<u32>()
    ]
}

fn any_record() -> impl Strategy<Value = Vec<u32>> {
    let time = prop_oneof![0..1000_u64, any::<u64>()];
    (event(), time, prop::collection::vec(word(), 0..8))
        .prop_map(|(event, time, data)| record(event, time, &data))
}

proptest! {
    #[test]
    fn any_bytes(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        if let Ok(parsed) = parse(&bytes, 50) {
            prop_assert!(parsed.records.len() <= 50);
            converted(parsed);
        }
    }

    /// Whatever the records say, the JSON is well-formed. No time is before the first or goes backwards within a
    /// vCPU's runs on a CPU, and every arrow that ends has begun.
    #[test]
    fn any_records(
        cpus in prop::collection::vec((0..5_u32, prop::collection::vec(any_record(), 0..20)), 0..5)
    ) {
        let all: Vec<_> = cpus.into_iter().map(|(cpu, records)| (cpu, records.concat())).collect();
        let Ok(parsed) = parse(&windows(&all), 1000) else {
            return Ok(());
        };
        let events = converted(parsed);
        let mut begun = alloc::collections::BTreeSet::new();
        let mut ends = alloc::collections::BTreeMap::new();
        for event in &events {
            prop_assert!(event["ts"].as_f64().unwrap() >= 0.0);
            match event["ph"].as_str().unwrap() {
                "s" => prop_assert!(begun.insert(event["id"].as_u64().unwrap())),
                "f" => prop_assert!(begun.contains(&event["id"].as_u64().unwrap())),
                "X" if event["name"].as_str().unwrap().starts_with('d') => {
                    let (start, length) = (event["ts"].as_f64().unwrap(), event["dur"].as_f64().unwrap());
                    let row = event["tid"].as_u64().unwrap();
                    let end = ends.insert(row, start + length).unwrap_or(0.0);
                    prop_assert!(length >= 0.0 && start + 0.01 + start * 1e-9 >= end, "{event} before {end}");
                }
                _ => {}
            }
        }
    }
}
