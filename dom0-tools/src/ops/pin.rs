//! `vcpu-pin`: sets the physical CPUs on which a domain's vCPUs may run.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;

use crate::config::CpuSet;
use crate::hyper::{CallError, DomId, Hypercalls, VcpuId, domain, machine};

/// Converts `set` to a bitmap for this machine's `cpus` CPUs.
///
/// # Errors
/// A message if the set contains none of them.
pub(super) fn bitmap(set: &CpuSet, cpus: u32) -> Result<Vec<u8>, String> {
    let bitmap = set.bitmap(cpus);
    if bitmap.iter().all(|&byte| byte == 0) {
        let last = cpus.saturating_sub(1);
        return Err(format!("{set}: this machine has only CPUs 0-{last}"));
    }
    Ok(bitmap)
}

/// Lets vCPU `vcpu` of a domain (a number or `all`) run only on `cpus`, a list in the syntax of `cpus=`.
///
/// # Errors
/// A message about the faulty word, or about the hypervisor's refusal.
pub fn pin<H: Hypercalls + ?Sized>(
    h: &mut H,
    id: DomId,
    vcpu: &str,
    cpus: &str,
) -> Result<(), String> {
    let words = |error: CallError| error.to_string();
    let has = domain::info(h, id).map_err(words)?.vcpus;
    let chosen = match vcpu {
        "all" => 0..has,
        word => match word.parse() {
            Ok(number) if number < has => number..number + 1,
            Ok(_) => return Err(format!("vCPU {word}: the domain has only {has}")),
            Err(_) => return Err(format!("vCPU {word}: neither a number nor `all`")),
        },
    };
    let machine_cpus = machine::host(h).map_err(words)?.cpus;
    let bitmap = match CpuSet::parse(cpus)? {
        Some(set) => bitmap(&set, machine_cpus)?,
        None => vec![0xff; machine_cpus.div_ceil(8) as usize],
    };
    for vcpu in chosen {
        domain::set_affinity(h, id, VcpuId(vcpu), &bitmap).map_err(words)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_needs_a_cpu_of_the_machine() {
        let set = |text| CpuSet::parse(text).expect("well-formed").expect("not all");
        assert_eq!(bitmap(&set("1-2,9"), 4), Ok(vec![0b110]));
        assert_eq!(
            bitmap(&set("4-5"), 4),
            Err("4,5: this machine has only CPUs 0-3".to_string())
        );
    }
}
