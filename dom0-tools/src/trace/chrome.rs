//! Writes the JSON of Chrome's trace viewer, which Perfetto opens. Each CPU has a row with the vCPUs that ran there.
//! Each vCPU has a row with its running times, hypercalls and faults. Arrows lead from a vCPU that woke another to
//! the place where that one ran next.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::string::{String, ToString};

use guest_pv_abi::hypercall;
use guest_pv_abi::trace::{
    TRC_64_FLAG, TRC_DOM0_DOM_ADD, TRC_DOM0_DOM_REM, TRC_GUEST, TRC_HW_IRQ_HANDLED,
    TRC_LOST_RECORDS, TRC_PV_HYPERCALL_SUBCALL, TRC_PV_HYPERCALL_V2, TRC_PV_PAGE_FAULT,
    TRC_PV_TRAP, TRC_SCHED_RUNSTATE_CHANGE, TRC_SCHED_WAKE,
};

use super::{Record, Vcpu};
use crate::hyper::DomId;
use crate::ops::view::Names;

/// The process id that stands for the machine; domains have the ids after it.
const MACHINE: u32 = 1;
const FIRST_DOMAIN: u32 = 2;
/// The id of the idle domain, `DOMID_IDLE`.
const IDLE: u16 = 0x7fff;
/// The runstate of a running vCPU, `RUNSTATE_running`.
const RUNNING: u32 = 0;

/// Names of exceptions by vector.
const EXCEPTIONS: [&str; 22] = [
    "#DE", "#DB", "NMI", "#BP", "#OF", "#BR", "#UD", "#NM", "#DF", "", "#TS", "#NP", "#SS", "#GP",
    "#PF", "", "#MF", "#AC", "#MC", "#XM", "#VE", "#CP",
];

/// State of a CPU during the conversion.
#[derive(Default)]
struct Cpu {
    /// The vCPU that runs there, and since when.
    runs: Option<(Vcpu, u64)>,
}

/// State of the conversion.
struct Writer<'a> {
    first: u64,
    khz: u64,
    sink: &'a mut dyn FnMut(&str),
    comma: &'static str,
    cpus: BTreeMap<u32, Cpu>,
    vcpus: BTreeSet<Vcpu>,
    /// Open arrows: the vCPU that was woken, and the arrow's number.
    arrows: BTreeMap<Vcpu, u64>,
    next_arrow: u64,
}

/// The row of an event: process and thread.
type Row = (u32, u32);

/// Writes the JSON of records, in pieces. `khz` is the frequency of the time-stamp counter.
pub fn write(
    mut records: alloc::vec::Vec<Record>,
    khz: u32,
    names: &dyn Names,
    sink: &mut dyn FnMut(&str),
) {
    // The records of each CPU are in order; a stable sort keeps them so.
    records.sort_by_key(|record| record.tsc);
    let mut writer = Writer {
        first: records.first().map_or(0, |record| record.tsc),
        khz: u64::from(khz.max(1)),
        sink,
        comma: "",
        cpus: BTreeMap::new(),
        vcpus: BTreeSet::new(),
        arrows: BTreeMap::new(),
        next_arrow: 0,
    };
    (writer.sink)("{\"displayTimeUnit\":\"ns\",\"traceEvents\":[");
    writer.begin(&records);
    for record in &records {
        writer.record(record);
    }
    let end = records.last().map_or(0, |record| record.tsc);
    writer.end(end, names);
    (writer.sink)("\n]}\n");
}

impl Writer<'_> {
    /// Finds out which vCPU ran on each CPU at the start, from the first change on that CPU.
    fn begin(&mut self, records: &[Record]) {
        for record in records {
            let (event, &[vcpu, ..]) = (record.event, record.data()) else {
                continue;
            };
            if event & !0x330 == TRC_SCHED_RUNSTATE_CHANGE && !self.cpus.contains_key(&record.cpu) {
                let ran = (event >> 8 & 3 == RUNNING).then(|| (vcpu_of(vcpu), self.first));
                self.cpus.insert(record.cpu, Cpu { runs: ran });
            }
        }
    }

    /// Writes one event: name and kind, row, time, and further members.
    fn event(&mut self, (name, kind): (&str, char), (process, thread): Row, tsc: u64, more: &str) {
        let time = self.micros(tsc.saturating_sub(self.first));
        let text = format!(
            "{}\n{{\"name\":{},\"ph\":\"{kind}\",\"pid\":{process},\"tid\":{thread},\"ts\":{time}{more}}}",
            self.comma,
            quoted(name),
        );
        (self.sink)(&text);
        self.comma = ",";
    }

    /// Converts ticks to microseconds.
    fn micros(&self, ticks: u64) -> String {
        let ns = u128::from(ticks) * 1_000_000 / u128::from(self.khz);
        format!("{}.{:03}", ns / 1000, ns % 1000)
    }

    /// Writes an instant event on the row of the vCPU that runs on the record's CPU, or else on the CPU's row.
    fn moment(&mut self, record: &Record, name: &str, args: &str) {
        let runs = self.cpus.get(&record.cpu).and_then(|cpu| cpu.runs);
        let row = match runs {
            Some((vcpu, _)) if vcpu.domain != IDLE => row_of(vcpu),
            _ => (MACHINE, record.cpu),
        };
        self.event(
            (name, 'i'),
            row,
            record.tsc,
            &format!(",\"s\":\"t\",\"args\":{{{args}}}"),
        );
    }

    fn record(&mut self, record: &Record) {
        self.cpus.entry(record.cpu).or_default();
        let plain = record.event & !TRC_64_FLAG;
        // A record with too few words is shown as unknown.
        let shown = match (record.event, record.data()) {
            (event, [vcpu, ..]) if event & !0x330 == TRC_SCHED_RUNSTATE_CHANGE => {
                self.runstate(record, vcpu_of(*vcpu), event >> 8 & 3, event >> 4 & 3);
                true
            }
            (TRC_SCHED_WAKE, [domain, number, ..]) => {
                self.wakes(record, vcpu_of(domain << 16 | number & 0xffff));
                true
            }
            (TRC_PV_HYPERCALL_V2 | TRC_PV_HYPERCALL_SUBCALL, [call, args @ ..]) => {
                self.hypercall(record, *call, args);
                true
            }
            (TRC_HW_IRQ_HANDLED, [irq, since, until, ..]) => {
                let took = until.wrapping_sub(*since);
                let start = record.tsc.saturating_sub(took.into());
                let more = format!(",\"dur\":{}", self.micros(took.into()));
                self.event(
                    (&format!("IRQ {irq}"), 'X'),
                    (MACHINE, record.cpu),
                    start.max(self.first),
                    &more,
                );
                true
            }
            (TRC_LOST_RECORDS, [count, ..]) => {
                let args = format!("\"records\":{count}");
                self.moment(record, "records lost", &args);
                true
            }
            (TRC_DOM0_DOM_ADD | TRC_DOM0_DOM_REM, [domain, ..]) => {
                let what = if record.event == TRC_DOM0_DOM_ADD {
                    "created"
                } else {
                    "destroyed"
                };
                self.moment(record, &format!("domain {domain} {what}"), "");
                true
            }
            _ => false,
        };
        if !shown && plain == TRC_PV_PAGE_FAULT {
            self.page_fault(record);
        } else if !shown && plain == TRC_PV_TRAP {
            self.trap(record);
        } else if !shown && plain & 0x0fff_f000 & !0xf000 == TRC_GUEST & !0xf000 {
            self.moment(
                record,
                &format!("guest's event {:#x}", record.event & 0xfff),
                "",
            );
        }
    }

    fn runstate(&mut self, record: &Record, vcpu: Vcpu, old: u32, new: u32) {
        let Some(cpu) = self.cpus.get_mut(&record.cpu) else {
            return;
        };
        if old == RUNNING && new != RUNNING {
            let ran = cpu.runs.take().filter(|(ran, _)| *ran == vcpu);
            if let Some((_, since)) = ran {
                self.ran(record.cpu, vcpu, since, record.tsc);
            }
        } else if new == RUNNING {
            let before = cpu.runs.replace((vcpu, record.tsc));
            if let Some((before, since)) = before {
                self.ran(record.cpu, before, since, record.tsc);
            }
            if let Some(arrow) = self.arrows.remove(&vcpu) {
                let more = format!(",\"cat\":\"wake\",\"id\":{arrow},\"bp\":\"e\"");
                self.event(("wakes", 'f'), (MACHINE, record.cpu), record.tsc, &more);
            }
        }
    }

    /// Writes a period in which a vCPU ran.
    fn ran(&mut self, cpu: u32, vcpu: Vcpu, since: u64, until: u64) {
        if vcpu.domain == IDLE {
            return;
        }
        self.vcpus.insert(vcpu);
        let more = format!(",\"dur\":{}", self.micros(until.saturating_sub(since)));
        let name = format!("d{}v{}", vcpu.domain, vcpu.number);
        self.event((&name, 'X'), (MACHINE, cpu), since, &more);
        self.event((&format!("CPU {cpu}"), 'X'), row_of(vcpu), since, &more);
    }

    /// Handles a wake-up: starts an arrow if another vCPU caused it.
    fn wakes(&mut self, record: &Record, woken: Vcpu) {
        let runs = self.cpus.get(&record.cpu).and_then(|cpu| cpu.runs);
        match runs {
            Some((waker, _)) if waker.domain != IDLE && waker != woken => {}
            _ => return,
        }
        if self.arrows.contains_key(&woken) {
            return;
        }
        let arrow = self.next_arrow;
        self.next_arrow += 1;
        self.arrows.insert(woken, arrow);
        let more = format!(",\"cat\":\"wake\",\"id\":{arrow}");
        self.event(("wakes", 's'), (MACHINE, record.cpu), record.tsc, &more);
    }

    fn hypercall(&mut self, record: &Record, call: u32, args: &[u32]) {
        let number = i64::from(call & 0xf_ffff);
        let known = hypercall::NUMBERS_U64
            .iter()
            .find(|(_, known)| *known == number);
        let name = match known {
            Some((name, _)) => name.trim_start_matches("__HYPERVISOR_").to_string(),
            None => format!("hypercall {number}"),
        };
        let args: String = args
            .iter()
            .enumerate()
            .fold(String::new(), |text, (n, arg)| {
                let comma = if n == 0 { "" } else { "," };
                text + &format!("{comma}\"{n}\":{arg}")
            });
        self.moment(record, &name, &args);
    }

    fn page_fault(&mut self, record: &Record) {
        let wide = record.event & TRC_64_FLAG != 0;
        let narrow = |at: usize| record.data().get(at).map(|word| u64::from(*word));
        let (rip, address, code) = if wide {
            (record.long(0), record.long(2), narrow(4))
        } else {
            (narrow(0), narrow(1), narrow(2))
        };
        if let (Some(rip), Some(address), Some(code)) = (rip, address, code) {
            let args = format!("\"rip\":\"{rip:#x}\",\"address\":\"{address:#x}\",\"code\":{code}");
            self.moment(record, "#PF", &args);
        }
    }

    fn trap(&mut self, record: &Record) {
        let wide = record.event & TRC_64_FLAG != 0;
        let (rip, what) = if wide {
            (record.long(0), record.data().get(2))
        } else {
            (
                record.data().first().map(|word| u64::from(*word)),
                record.data().get(1),
            )
        };
        let (Some(rip), Some(what)) = (rip, what) else {
            return;
        };
        let number = what & 0x7fff;
        let name = EXCEPTIONS
            .get(number as usize)
            .filter(|name| !name.is_empty());
        let name = name.map_or_else(|| format!("trap {number}"), ToString::to_string);
        self.moment(
            record,
            &name,
            &format!("\"rip\":\"{rip:#x}\",\"error\":{}", what >> 16),
        );
    }

    /// Ends everything that still runs, then names the rows.
    fn end(&mut self, tsc: u64, names: &dyn Names) {
        let open: alloc::vec::Vec<_> = self
            .cpus
            .iter()
            .filter_map(|(cpu, state)| state.runs.map(|(vcpu, since)| (*cpu, vcpu, since)))
            .collect();
        for (cpu, vcpu, since) in open {
            self.ran(cpu, vcpu, since, tsc);
        }
        self.name("process_name", (MACHINE, 0), "physical CPUs");
        let cpus: alloc::vec::Vec<u32> = self.cpus.keys().copied().collect();
        for cpu in cpus {
            self.name("thread_name", (MACHINE, cpu), &format!("CPU {cpu}"));
        }
        for vcpu in self.vcpus.clone() {
            let name = names.name(DomId(vcpu.domain));
            self.name(
                "process_name",
                row_of(vcpu),
                &format!("domain {} {name}", vcpu.domain),
            );
            self.name(
                "thread_name",
                row_of(vcpu),
                &format!("vCPU {}", vcpu.number),
            );
        }
    }

    fn name(&mut self, what: &str, row: Row, name: &str) {
        let more = format!(",\"args\":{{\"name\":{}}}", quoted(name));
        self.event((what, 'M'), row, self.first, &more);
    }
}

/// Decodes a vCPU from the word in runstate records.
const fn vcpu_of(word: u32) -> Vcpu {
    Vcpu {
        domain: (word >> 16) as u16,
        number: word as u16,
    }
}

fn row_of(vcpu: Vcpu) -> Row {
    (FIRST_DOMAIN + u32::from(vcpu.domain), vcpu.number.into())
}

/// Formats a text as a JSON string.
fn quoted(text: &str) -> String {
    serde_json::to_string(text).unwrap_or_default()
}
