//! Compares every number, size and offset with those that a C compiler finds in Xen's headers.
//!
//! Needs `cc` and the headers (Debian: libxen-dev) in /usr/include or in the folder that `XENLIKE_XEN_INCLUDE` names;
//! where they are missing, it prints so and passes. The reference is 4.20: with older headers it leaves out the
//! control ABI and everything that those headers don't know.

mod tables;

use std::collections::HashMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use guest_pv_abi::domctl::XEN_DOMCTL_INTERFACE_VERSION;

/// A C expression and the value that this crate has for it.
struct Expected {
    expression: String,
    value: i64,
    /// Whether it is a macro, so that `#ifdef` can test for it.
    is_macro: bool,
}

#[test]
fn numbers_and_layouts_are_those_of_the_headers() {
    let include = std::env::var_os("XENLIKE_XEN_INCLUDE")
        .map_or_else(|| "/usr/include".into(), PathBuf::from);
    if !include.join("xen/xen.h").exists() {
        println!(
            "skipped: no xen/xen.h in {} (Debian: libxen-dev)",
            include.display()
        );
        return;
    }
    let version = Expected {
        expression: "XEN_DOMCTL_INTERFACE_VERSION".into(),
        value: i64::from(XEN_DOMCTL_INTERFACE_VERSION),
        is_macro: true,
    };
    let Some(found) = probe(&include, "version", std::slice::from_ref(&version)) else {
        println!("skipped: no working C compiler `cc`");
        return;
    };
    let reference = found.get(&version.expression) == Some(&version.value);
    if !reference {
        println!("headers are not 4.20's: control ABI and unknown numbers left out");
    }

    let wanted = expectations(reference);
    let found = probe(&include, "all", &wanted).expect("the comparison program compiles");
    let wrong: Vec<String> = wanted
        .iter()
        .filter_map(|e| match found.get(&e.expression) {
            Some(c_value) if *c_value == e.value => None,
            None if !reference => None,
            other => Some(format!(
                "{}: here {:#x}, header {other:x?}",
                e.expression, e.value
            )),
        })
        .collect();
    println!("{} values compared", found.len());
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Error numbers that the headers define for the hypervisor alone.
const HYPERVISOR_ONLY: &[&str] = &["EINTR", "ERESTART"];

/// Structures that are newer than 4.17, the oldest headers with which this test is used.
const LATER: &[&str] = &[
    "struct xenpf_ucode_revision",
    "struct xenpf_microcode_update2",
    "struct xen_varbuf",
];

/// All values to compare.
fn expectations(reference: bool) -> Vec<Expected> {
    let known = |module: &str| {
        reference
            || !["domctl", "sysctl", "cpufeatureset"]
                .iter()
                .any(|m| module.starts_with(m))
    };
    let mut wanted = Vec::new();
    for (module, table) in tables::numbers()
        .into_iter()
        .filter(|(module, _)| known(module))
    {
        for (name, value) in table {
            let is_macro = module != "cpufeatureset" && !name.starts_with("XS_");
            wanted.push(Expected {
                expression: (*name).to_owned(),
                value: *value,
                is_macro,
            });
        }
    }
    let public = |name: &str| !HYPERVISOR_ONLY.contains(&name);
    for (name, value) in guest_pv_abi::errno::NAMES
        .iter()
        .filter(|(name, _)| public(name))
    {
        let expression = format!("XEN_{name}");
        wanted.push(Expected {
            expression,
            value: i64::from(*value),
            is_macro: false,
        });
    }
    let there =
        |s: &tables::Structure| known(s.module) && (reference || !LATER.contains(&s.c_name));
    for s in tables::structures().into_iter().filter(there) {
        let layout = |expression, value: usize| Expected {
            expression,
            value: i64::try_from(value).expect("a size"),
            is_macro: false,
        };
        wanted.push(layout(format!("sizeof({})", s.c_name), s.size));
        for (field, offset) in s.fields {
            wanted.push(layout(format!("offsetof({}, {field})", s.c_name), *offset));
        }
    }
    wanted
}

/// Compiles and runs a C program that prints the expressions; `None` if that fails.
fn probe(include: &Path, name: &str, wanted: &[Expected]) -> Option<HashMap<String, i64>> {
    let dir = std::env::temp_dir().join(format!("guest-pv-abi-{}-{name}", std::process::id()));
    std::fs::create_dir_all(&dir).ok()?;
    let (source, binary) = (dir.join("probe.c"), dir.join("probe"));
    std::fs::write(&source, program(wanted)).ok()?;
    let mut cc = Command::new("cc");
    cc.arg("-w")
        .arg("-I")
        .arg(include)
        .arg(&source)
        .arg("-o")
        .arg(&binary);
    let compiled = cc.output().ok()?;
    if !compiled.status.success() {
        println!("{}", String::from_utf8_lossy(&compiled.stderr));
        return None;
    }
    let output = Command::new(&binary).output().ok()?;
    std::fs::remove_dir_all(&dir).ok()?;
    let parse = |line: &str| {
        let (name, value) = line.split_once('\t')?;
        Some((name.to_owned(), value.parse().ok()?))
    };
    Some(
        String::from_utf8(output.stdout)
            .ok()?
            .lines()
            .filter_map(parse)
            .collect(),
    )
}

/// The source text of the C program.
fn program(wanted: &[Expected]) -> String {
    let mut text = String::from(
        "#define __XEN_TOOLS__ 1\n#include <stddef.h>\n#include <stdint.h>\n#include <stdio.h>\n",
    );
    for header in tables::HEADERS {
        writeln!(text, "#include <{header}>").expect("writing to a string");
    }
    text.push_str("int main(void) {\n");
    for Expected {
        expression,
        is_macro,
        ..
    } in wanted
    {
        let print = format!("printf(\"{expression}\\t%lld\\n\", (long long)({expression}));");
        if *is_macro {
            writeln!(text, "#ifdef {expression}\n{print}\n#endif").expect("writing to a string");
        } else {
            writeln!(text, "{print}").expect("writing to a string");
        }
    }
    text.push_str("return 0; }\n");
    text
}
