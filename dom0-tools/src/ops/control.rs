//! Verbs that change a running domain: its memory, its vCPUs, its name, and SysRq.

use alloc::format;
use alloc::string::{String, ToString};

use super::create::EXTRA_KIB;
use super::nodes::Nodes;
use crate::hyper::{CallError, DomId, Hypercalls, domain};
use crate::store::path;

/// Maximum length of a domain's name.
const MAX_NAME: usize = 64;

fn words(error: CallError) -> String {
    error.to_string()
}

/// Reads an amount of memory as xl does: in MiB, or with the unit `b`, `k`, `m`, `g` or `t`.
///
/// # Errors
/// A message that quotes the word.
pub fn amount_kib(word: &str) -> Result<u64, String> {
    let fault = || format!("{word}: not an amount of memory, such as 512 or 2g");
    let digits = word.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let number: u64 = digits.parse().map_err(|_| fault())?;
    let unit = word.get(digits.len()..).unwrap_or_default();
    let kib = match unit.to_ascii_lowercase().as_str() {
        "b" => Some(number >> 10),
        "k" | "kb" => Some(number),
        "" | "m" | "mb" => number.checked_mul(1 << 10),
        "g" | "gb" => number.checked_mul(1 << 20),
        "t" | "tb" => number.checked_mul(1 << 30),
        _ => None,
    };
    // The limit leaves room for the constant that is added before the hypercall.
    let kib = kib.filter(|kib| (1..u64::MAX >> 10).contains(kib));
    kib.ok_or_else(fault)
}

/// Returns the path of a request's node. Refuses if the domain's kernel is known not to watch it.
fn is_heard(nodes: &dyn Nodes, id: DomId, word: &str, node: &str) -> Result<String, String> {
    let path = format!("{}/{node}", path::home(id));
    match nodes.is_watched(id, &path) {
        Some(false) => Err(format!(
            "{word}: its kernel does not listen to such requests"
        )),
        _ => Ok(path),
    }
}

/// The maximum memory with which the domain was built, if Xenstore has it.
fn static_max_kib(nodes: &mut dyn Nodes, id: DomId) -> Option<u64> {
    let value = nodes.read(&format!("{}/memory/static-max", path::home(id)))?;
    value.parse().ok()
}

/// `mem-set`: asks the kernel of domain `id` to change its memory. Messages call the domain `word`, as the user did.
///
/// # Errors
/// A message about the cause.
pub fn mem_set<H: Hypercalls + ?Sized>(
    h: &mut H,
    nodes: &mut dyn Nodes,
    id: DomId,
    word: &str,
    amount: &str,
) -> Result<(), String> {
    let kib = amount_kib(amount)?;
    if let Some(most) = static_max_kib(nodes, id).filter(|most| kib > *most) {
        let most = most >> 10;
        return Err(format!(
            "{word}: its kernel was started for at most {most} MiB; maxmem= in its configuration sets that"
        ));
    }
    let target = is_heard(nodes, id, word, "memory/target")?;
    // As in xl, the limit is raised before the kernel can ask for pages.
    domain::set_max_memory(h, id, kib + EXTRA_KIB).map_err(words)?;
    nodes.write(&target, &kib.to_string())
}

/// `mem-max`: sets the maximum memory of a domain.
///
/// # Errors
/// A message about the cause.
pub fn mem_max<H: Hypercalls + ?Sized>(h: &mut H, id: DomId, amount: &str) -> Result<(), String> {
    domain::set_max_memory(h, id, amount_kib(amount)? + EXTRA_KIB).map_err(words)
}

/// `vcpu-set`: asks the kernel to bring vCPUs up or down.
///
/// # Errors
/// A message about the cause.
pub fn vcpu_set<H: Hypercalls + ?Sized>(
    h: &mut H,
    nodes: &mut dyn Nodes,
    id: DomId,
    word: &str,
    count: &str,
) -> Result<(), String> {
    let has = domain::info(h, id).map_err(words)?.vcpus;
    let count: u32 = match count.parse() {
        Ok(count) if (1..=has).contains(&count) => count,
        Ok(_) => {
            return Err(format!(
                "{word}: it may have 1 to {has} vCPUs; maxvcpus= in its configuration sets that"
            ));
        }
        Err(_) => return Err(format!("{count}: not a number of vCPUs")),
    };
    let cpus = is_heard(nodes, id, word, "cpu")?;
    for vcpu in 0..has {
        let state = if vcpu < count { "online" } else { "offline" };
        nodes.write(&format!("{cpus}/{vcpu}/availability"), state)?;
    }
    Ok(())
}

/// `sysrq`: sends a SysRq key to the domain's kernel.
///
/// # Errors
/// A message about the cause.
pub fn sysrq(nodes: &mut dyn Nodes, id: DomId, word: &str, letter: &str) -> Result<(), String> {
    if letter.chars().count() != 1 || !letter.is_ascii() {
        return Err(format!(
            "{letter}: SysRq wants one letter, such as h for help"
        ));
    }
    let node = is_heard(nodes, id, word, "control/sysrq")?;
    nodes.write(&node, letter)
}

/// Checks a new name for a domain.
///
/// # Errors
/// A message about what is wrong with the name.
pub fn check_name(name: &str) -> Result<(), String> {
    let odd = |c: char| c.is_control() || c == '/';
    if name.is_empty() || name.len() > MAX_NAME || name.contains(odd) {
        return Err(format!(
            "name={name:?}: a name has 1 to {MAX_NAME} visible characters, and no `/`"
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_as_xl_takes_them() {
        for (word, kib) in [
            ("512", 512 << 10),
            ("512m", 512 << 10),
            ("2G", 2 << 20),
            ("2gb", 2 << 20),
            ("100k", 100),
            ("4096b", 4),
        ] {
            assert_eq!(amount_kib(word), Ok(kib), "{word}");
        }
        for word in [
            "",
            "0",
            "x",
            "-1",
            "5x",
            "18446744073709551615",
            "99999999999999t",
        ] {
            assert!(amount_kib(word).is_err(), "{word}");
        }
    }
}
