//! Calls that the toolstack makes to domain 0's hypervisor.

use xenlike_rt::abi::domctl::{self, Domctl, GetDomainInfo};
use xenlike_rt::abi::errno::{self, Errno};
use xenlike_rt::abi::platform::{self, PlatformOp, ResourceEntry, ResourceOp};
use xenlike_rt::abi::sysctl::{self, CpuFeatureset, CpuHotplug, CpuPolicy, ReadConsole, Sysctl};
use xenlike_rt::abi::{GuestHandle, GuestHandle64, hypercall as nr};
use xenlike_rt::hyper;
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes};

use crate::check;

/// Maximum number of leaves and MSRs of a policy in Xen 4.20.
const MAX_LEAVES: u32 = 120;
const MAX_MSRS: u32 = 2;
/// Number of words in a featureset.
const FEATURE_WORDS: u32 = 19;
const TSC: u64 = 0x10;
const CMT_EVTSEL: u64 = 0xc8d;

/// Carries out sysctl `cmd`, which may change `body`.
pub fn ask<T: FromBytes + IntoBytes + Immutable>(cmd: u32, body: &mut T) -> Result<u64, Errno> {
    let mut op = Sysctl::new_zeroed();
    (op.cmd, op.interface_version) = (cmd, sysctl::XEN_SYSCTL_INTERFACE_VERSION);
    op.u.set(body);
    let answer = hyper::control(nr::SYSCTL, &mut op);
    *body = op.u.get();
    answer
}

fn itself() {
    let mut op = Domctl::new_zeroed();
    (op.cmd, op.interface_version) = (
        domctl::XEN_DOMCTL_GETDOMAININFO,
        domctl::XEN_DOMCTL_INTERFACE_VERSION,
    );
    let told = hyper::control(nr::DOMCTL, &mut op);
    let info: GetDomainInfo = op.u.get();
    check("it knows itself", told == Ok(0));
    let wanted = 0xffff_0000 | domctl::XEN_DOMINF_RUNNING;
    check("it runs, and has not shut down", info.flags == wanted);
    check(
        "it has an emulated PIT",
        info.arch_config.emulation_flags == 1 << 8,
    );
}

fn read_log(clear: u8, incremental: u8, index: u32) -> (u32, u32) {
    let mut buffer = [0_u8; 256];
    let mut body = ReadConsole::new_zeroed();
    (body.clear, body.incremental, body.index) = (clear, incremental, index);
    body.buffer = GuestHandle64::of_mut(&mut buffer);
    body.count = buffer.len() as u32;
    let answer = ask(sysctl::XEN_SYSCTL_READCONSOLE, &mut body);
    assert!(answer.is_ok(), "readconsole: {answer:?}");
    (body.count, body.index)
}

/// What three readers find in the log after it was emptied. It is emptied again if the
/// hypervisor logs something meanwhile.
fn emptied(index: u32) -> [u32; 3] {
    let mut found = [0; 3];
    for _ in 0..10 {
        while read_log(1, 0, 0).0 > 0 {}
        found = [read_log(0, 0, 0), read_log(0, 1, 0), read_log(0, 1, index)].map(|read| read.0);
        if found == [0; 3] {
            break;
        }
    }
    found
}

fn log() {
    let (first, index) = read_log(0, 1, 0);
    check("there is a log", first > 0);
    check("it goes on behind that", read_log(0, 1, index).1 != index);
    let [all, in_pieces, behind] = emptied(index);
    check("it can be emptied", all == 0);
    check("for readers in pieces, too", in_pieces == 0);
    check("and for those who are behind", behind == 0);
}

fn policies() {
    let sizes = |index| {
        let mut body = CpuPolicy::new_zeroed();
        body.index = index;
        let answer = ask(sysctl::XEN_SYSCTL_GET_CPU_POLICY, &mut body);
        answer.map(|_| (body.nr_leaves, body.nr_msrs))
    };
    for index in 0..6 {
        check(
            "the most of a policy",
            sizes(index) == Ok((MAX_LEAVES, MAX_MSRS)),
        );
    }
    check("no other", sizes(6) == Err(errno::EINVAL));
    let words = |index, features| {
        let mut body = CpuFeatureset::new_zeroed();
        (body.index, body.nr_features, body.features) = (index, FEATURE_WORDS, features);
        ask(sysctl::XEN_SYSCTL_GET_CPU_FEATURESET, &mut body).map(|_| body.nr_features)
    };
    let mut features = [0_u32; FEATURE_WORDS as usize];
    let room = GuestHandle64::of_mut(&mut features);
    for index in 0..6 {
        check("a featureset", words(index, room) == Ok(FEATURE_WORDS));
    }
    check("of no other", words(6, room) == Err(errno::EINVAL));
    check(
        "its size by any name",
        words(6, GuestHandle64::NULL) == Ok(FEATURE_WORDS),
    );
}

fn others() {
    let mut list = [0_u32; 12];
    list[0] = sysctl::XEN_SYSCTL_LIVEPATCH_LIST;
    let answer = ask(sysctl::XEN_SYSCTL_LIVEPATCH_OP, &mut list);
    check("no live patches", answer == Ok(0) && list[4] == 0);
    let mut hotplug = CpuHotplug {
        cpu: 77,
        op: sysctl::XEN_SYSCTL_CPU_HOTPLUG_OFFLINE,
    };
    let answer = ask(sysctl::XEN_SYSCTL_CPU_HOTPLUG, &mut hotplug);
    check("a CPU that is none can't go", answer == Err(errno::EINVAL));
}

fn resource(cmd: u32, idx: u64, rsvd: u32) -> (Result<u64, Errno>, ResourceEntry) {
    let mut entry = ResourceEntry {
        cmd,
        rsvd,
        idx,
        val: 0,
    };
    let mut op = PlatformOp::new_zeroed();
    (op.cmd, op.interface_version) = (
        platform::XENPF_RESOURCE_OP,
        platform::XENPF_INTERFACE_VERSION,
    );
    op.u.set(&ResourceOp {
        nr_entries: 1,
        cpu: 0,
        entries: GuestHandle::of_mut(&mut entry),
    });
    (hyper::control(nr::PLATFORM_OP, &mut op), entry)
}

fn resources() {
    let (read, write) = (
        platform::XEN_RESOURCE_OP_MSR_READ,
        platform::XEN_RESOURCE_OP_MSR_WRITE,
    );
    let (answer, entry) = resource(read, TSC, 0);
    check("the time as a resource", answer == Ok(1) && entry.val != 0);
    let refused = |cmd, idx, rsvd| {
        let (answer, entry) = resource(cmd, idx, rsvd);
        (answer == Ok(0)).then_some(entry.cmd as i32)
    };
    let code = |errno: Errno| Some(errno.to_ret() as i32);
    check(
        "it can't be set",
        refused(write, TSC, 0) == code(errno::EPERM),
    );
    check(
        "no monitoring",
        refused(read, CMT_EVTSEL, 0) == code(errno::EPERM),
    );
    check(
        "no other command",
        refused(7, TSC, 0) == code(errno::EOPNOTSUPP),
    );
    check(
        "padding is zero",
        refused(read, TSC, 1) == code(errno::EINVAL),
    );
}

pub fn run() {
    itself();
    log();
    policies();
    others();
    resources();
}
