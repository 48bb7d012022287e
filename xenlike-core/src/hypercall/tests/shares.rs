//! Weights, caps and CPU pools, as set by a toolstack.

use guest_pv_abi::Payload;
use guest_pv_abi::domctl as abi;
use guest_pv_abi::errno::{self, Errno};
use guest_pv_abi::hypercall as nr;
use guest_pv_abi::sysctl;
use guest_pv_abi::xen::CtlBitmap;
use zerocopy::FromZeros;

use super::control::Toolstack;

/// Makes a call to the scheduler `sched_id` and returns the words of the answer.
fn ask_scheduler(
    tools: &Toolstack,
    id: u16,
    (sched_id, cmd): (u32, u32),
    credit: abi::SchedCredit,
) -> Result<abi::SchedCredit, Errno> {
    let mut body = abi::SchedulerOp {
        sched_id,
        cmd,
        u: Payload::of(&credit),
    };
    tools.call(abi::XEN_DOMCTL_SCHEDULER_OP, id, &mut body)?;
    Ok(body.u.get())
}

#[test]
fn the_scheduler_answers_as_credit2() {
    const GET: u32 = abi::XEN_DOMCTL_SCHEDOP_GETINFO;
    const PUT: u32 = abi::XEN_DOMCTL_SCHEDOP_PUTINFO;
    let tools = Toolstack::new();
    let id = tools.create();
    let ask = |what, (weight, cap)| {
        let answer = ask_scheduler(&tools, id, what, abi::SchedCredit { weight, cap });
        answer.map(|credit| (credit.weight, credit.cap))
    };
    let credit2 = |cmd, values| ask((abi::XEN_SCHEDULER_CREDIT2, cmd), values);
    let other = ask((abi::XEN_SCHEDULER_CREDIT, GET), (0, 0));
    assert_eq!(other, Err(errno::EINVAL));
    // The domain has no vCPU yet that could reach a cap.
    assert_eq!(credit2(PUT, (0, 1)), Err(errno::EINVAL));
    let vcpus = tools.call(abi::XEN_DOMCTL_MAX_VCPUS, id, &mut abi::MaxVcpus { max: 2 });
    vcpus.unwrap();
    assert_eq!(credit2(GET, (0, 0)), Ok((256, 0)));
    credit2(PUT, (512, 200)).unwrap();
    for above in [201, u16::MAX] {
        assert_eq!(credit2(PUT, (0, above)), Err(errno::EINVAL));
    }
    assert_eq!(credit2(GET, (0, 0)), Ok((512, 200)));
    credit2(PUT, (0, 0)).unwrap();
    assert_eq!(credit2(GET, (0, 0)), Ok((512, 0)));
}

#[test]
fn pools_come_and_go() {
    use sysctl::*;
    let (tools, cpu) = (Toolstack::new(), core::cell::Cell::new(77));
    let ask = |op, pool, sched_id, domid: u16| {
        let mut request = Sysctl::new_zeroed();
        (request.cmd, request.interface_version) =
            (XEN_SYSCTL_CPUPOOL_OP, XEN_SYSCTL_INTERFACE_VERSION);
        request.u.set(&CpupoolOp {
            op,
            cpupool_id: pool,
            sched_id,
            domid: domid.into(),
            cpu: cpu.get(),
            n_dom: 0,
            cpumap: CtlBitmap {
                bitmap: tools.more(),
                nr_bits: 8,
                _gap0: [0; 4],
            },
        });
        tools.0.write(tools.0.at, &request);
        let answer = loop {
            match tools.0.call(nr::SYSCTL, &[tools.0.at]) {
                // Another test is performing a domctl.
                Err(errno::ERESTART) => {}
                answer => break answer,
            }
        };
        answer.map(|_| tools.0.read::<Sysctl>(tools.0.at).u.get::<CpupoolOp>())
    };
    let (any, credit2) = (XEN_SYSCTL_CPUPOOL_PAR_ANY, abi::XEN_SCHEDULER_CREDIT2);
    let create = |pool, sched| ask(XEN_SYSCTL_CPUPOOL_OP_CREATE, pool, sched, 0);
    assert_eq!(
        create(any, abi::XEN_SCHEDULER_CREDIT).err(),
        Some(errno::ENOENT)
    );
    assert_eq!(create(0, credit2).err(), Some(errno::EEXIST));
    let pool = create(any, credit2).unwrap().cpupool_id;
    assert!((1..64).contains(&pool));
    let told = ask(XEN_SYSCTL_CPUPOOL_OP_INFO, pool, 0, 0).unwrap();
    assert_eq!(
        (told.cpupool_id, told.sched_id, told.n_dom),
        (pool, credit2, 0)
    );
    // The pool has no CPU yet.
    let id = tools.create();
    let move_to = |id, pool| ask(XEN_SYSCTL_CPUPOOL_OP_MOVEDOMAIN, pool, 0, id).err();
    assert_eq!(move_to(id, pool), Some(errno::ENOENT));
    assert_eq!(move_to(id, 0), None);
    assert_eq!(move_to(0x7000, pool), Some(errno::ESRCH));
    assert_eq!(move_to(0, pool), Some(errno::EINVAL));
    assert_eq!(tools.info(id).unwrap().cpupool, 0);
    for op in [XEN_SYSCTL_CPUPOOL_OP_ADDCPU, XEN_SYSCTL_CPUPOOL_OP_RMCPU] {
        // Neither number is a bit of a CPU set.
        for number in [77, 64] {
            cpu.set(number);
            let refused = ask(op, pool, 0, 0).err();
            assert_eq!(refused, Some(errno::EINVAL), "CPU {number}");
        }
    }
    let destroy = |pool| ask(XEN_SYSCTL_CPUPOOL_OP_DESTROY, pool, 0, 0).err();
    assert_eq!(destroy(0), Some(errno::EBUSY));
    assert_eq!(destroy(pool), None);
    assert_eq!(destroy(pool), Some(errno::ENOENT));
    assert!(ask(XEN_SYSCTL_CPUPOOL_OP_FREEINFO, 0, 0, 0).is_ok());
    assert_eq!(ask(9, 0, 0, 0).err(), Some(errno::ENOSYS));
}
