//! Compares every number, size and offset with those that a C compiler finds in Xen's headers, for x86_64 and for i386.
//!
//! Needs `cc` and the headers (Debian: libxen-dev) in /usr/include or in the folder that `XENLIKE_XEN_INCLUDE` names;
//! where they are missing, it prints so and passes. The program is compiled to assembly, with the values in it, and
//! never run, so that no 32-bit C library is needed. The reference is 4.20: with older headers it leaves out the
//! control ABI and everything that those headers don't know.

mod tables;

use std::collections::HashMap;
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use guest_pv_abi::Width;
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
    compare(Width::Wide);
}

#[test]
fn narrow_layouts_are_those_of_the_headers_for_i386() {
    compare(Width::Narrow);
}

fn compare(width: Width) {
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
    let Some(found) = probe(&include, width, std::slice::from_ref(&version)) else {
        println!("skipped: no C compiler `cc`");
        return;
    };
    let reference = found.get(&version.expression) == Some(&version.value);
    if !reference {
        println!("headers are not 4.20's: control ABI and unknown numbers left out");
    }

    let wanted = match width {
        Width::Wide => expectations(reference),
        Width::Narrow => narrow_expectations(reference),
    };
    let found = probe(&include, width, &wanted).expect("the compiler that was there before");
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

/// Fields that the headers don't have for i386.
const WIDE_ONLY: &[&str] = &["wc_sec_hi"];

/// The modules of the control ABI, whose version must be that of the headers.
const CONTROL: &[&str] = &["domctl", "sysctl", "cpufeatureset"];

/// The values to compare for x86_64.
fn expectations(reference: bool) -> Vec<Expected> {
    let known = |module: &str| reference || !CONTROL.iter().any(|m| module.starts_with(m));
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
    layouts(tables::structures(), reference, &mut wanted);
    wanted
}

/// The values to compare for i386.
fn narrow_expectations(reference: bool) -> Vec<Expected> {
    let number = |(name, value): &(&str, i64)| Expected {
        expression: (*name).to_owned(),
        value: *value,
        is_macro: true,
    };
    let mut wanted: Vec<Expected> = tables::narrow_numbers()
        .into_iter()
        .flatten()
        .map(number)
        .collect();
    layouts(tables::narrow_structures(), reference, &mut wanted);
    wanted.retain(|e| !WIDE_ONLY.iter().any(|field| e.expression.contains(field)));
    wanted
}

/// Adds sizes and offsets of those structures that the headers have.
fn layouts(structures: Vec<tables::Structure>, reference: bool, wanted: &mut Vec<Expected>) {
    let there = |s: &tables::Structure| {
        let control = CONTROL.iter().any(|m| s.module.starts_with(m));
        reference || !control && !LATER.contains(&s.c_name)
    };
    let layout = |expression, value: usize| Expected {
        expression,
        value: i64::try_from(value).expect("a size"),
        is_macro: false,
    };
    for s in structures.into_iter().filter(there) {
        wanted.push(layout(format!("sizeof({})", s.c_name), s.size));
        for (field, offset) in s.fields {
            wanted.push(layout(format!("offsetof({}, {field})", s.c_name), *offset));
        }
    }
}

/// Compiles a C program to assembly that contains the values of the expressions; `None` if there is no compiler.
fn probe(include: &Path, width: Width, wanted: &[Expected]) -> Option<HashMap<String, i64>> {
    let machine = match width {
        Width::Wide => "-m64",
        Width::Narrow => "-m32",
    };
    let mut cc = Command::new("cc")
        .args([
            machine,
            "-ffreestanding",
            "-w",
            "-S",
            "-x",
            "c",
            "-o",
            "-",
            "-I",
        ])
        .arg(include)
        .arg("-")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .ok()?;
    let mut source = cc.stdin.take().expect("a pipe");
    source
        .write_all(program(wanted).as_bytes())
        .expect("the compiler reads its input");
    drop(source);
    let compiled = cc.wait_with_output().expect("the compiler's output");
    assert!(compiled.status.success(), "the comparison program compiles");
    let parse = |line: &str| {
        let (name, value) = line.trim().strip_prefix('@')?.split_once("=$")?;
        Some((name.to_owned(), value.parse().ok()?))
    };
    let text = String::from_utf8(compiled.stdout).expect("assembly is text");
    Some(text.lines().filter_map(parse).collect())
}

/// The source text of the C program.
fn program(wanted: &[Expected]) -> String {
    let mut text =
        String::from("#define __XEN_TOOLS__ 1\n#include <stddef.h>\n#include <stdint.h>\n");
    for header in tables::HEADERS {
        writeln!(text, "#include <{header}>").expect("writing to a string");
    }
    text.push_str("void values(void) {\n");
    for Expected {
        expression,
        is_macro,
        ..
    } in wanted
    {
        let value =
            format!("__asm__ volatile(\"@{expression}=%0\" :: \"i\" ((long long)({expression})));");
        if *is_macro {
            writeln!(text, "#ifdef {expression}\n{value}\n#endif").expect("writing to a string");
        } else {
            writeln!(text, "{value}").expect("writing to a string");
        }
    }
    text.push_str("}\n");
    text
}
