//! Compares the syntax with Debian's libxlutil, which xl uses to read configurations, over a corpus and over
//! generated texts. Both must refuse the same texts and find the same values in the others.

extern crate std;

use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt::Write as _;
use core::str;

use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::{env, fs, process, thread};

use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;

use super::syntax::{self, Value};

const KEYS: [&str; 3] = ["a", "b", "a.b"];
const GENERATED: usize = 3000;

/// Compiles the program that reads through libxlutil; returns its path.
fn reader() -> PathBuf {
    let source = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("src/config/read_by_xl.c");
    let program = env::temp_dir().join(std::format!("read-by-xl-{}", process::id()));
    let mut cc = Command::new("cc");
    cc.arg(source).arg("-o").arg(&program).arg("-lxlutil");
    let status = cc.status().expect("cc");
    assert!(status.success(), "libxen-dev is missing: run scripts/setup");
    program
}

/// The values that libxlutil finds in each text.
fn by_xl(texts: &[Vec<u8>]) -> Vec<String> {
    let program = reader();
    let mut child = Command::new(&program)
        .args(KEYS)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the compiled program");
    let mut input = child.stdin.take().expect("a pipe");
    let mut all = Vec::new();
    for text in texts {
        all.extend_from_slice(std::format!("{}\n", text.len()).as_bytes());
        all.extend_from_slice(text);
    }
    let writer = thread::spawn(move || input.write_all(&all));
    let output = child.wait_with_output().expect("its output");
    writer.join().expect("the writer").expect("all written");
    fs::remove_file(program).expect("the program");
    assert!(output.status.success());
    let printed = String::from_utf8(output.stdout).expect("text");
    printed.lines().map(str::to_string).collect()
}

fn hex(out: &mut String, bytes: &[u8]) {
    out.push('<');
    for byte in bytes {
        let _ = write!(out, "{byte:02x}");
    }
    out.push('>');
}

/// The same output, produced by our own parser.
fn by_us(text: &[u8]) -> String {
    let Ok(settings) = syntax::parse(text) else {
        return "refused".to_string();
    };
    let mut line = String::new();
    for key in KEYS {
        match settings.iter().find(|it| it.key == key).map(|it| &it.value) {
            Some(value @ Value::Atom(bytes)) => {
                hex(&mut line, bytes);
                if let Some(number) = value.number() {
                    let _ = write!(line, "{number}");
                }
            }
            Some(Value::List(items)) => {
                line.push('[');
                for item in items {
                    match item {
                        Value::Atom(bytes) => hex(&mut line, bytes),
                        Value::List(_) => line.push_str("[]"),
                    }
                }
                line.push(']');
            }
            None => {}
        }
        line.push(' ');
    }
    line
}

fn compare(texts: &[Vec<u8>]) -> usize {
    let theirs = by_xl(texts);
    assert_eq!(theirs.len(), texts.len());
    for (text, theirs) in texts.iter().zip(&theirs) {
        let text_shown = String::from_utf8_lossy(text);
        assert_eq!(&by_us(text), theirs, "of\n{text_shown}");
    }
    theirs.iter().filter(|line| *line != "refused").count()
}

#[test]
fn a_corpus() {
    const ACCEPTED: [&str; 21] = [
        "",
        ";;a=1;;",
        "a=1;a=2",
        "a = 4 # four",
        "a=\"0x10\"\nb='010'",
        "a=\"-1\"; b=' +5'",
        "a=0x\nb=1f",
        "a.b=3\na.b.c=4",
        "a=[1,2,]",
        "a=[1,\n\"x\"\n,2]",
        "a=[1 ,\n# c\n2]",
        "a=[]\nb=[[1],2]",
        "a='x'\na+='y'",
        "a=[1]\na+=[2]\nb+='x'",
        "a='\\a\\b\\f\\n\\r\\t\\v\\\\\\'\\\"'",
        "a='\"'\nb=\"'\"",
        "a=\"\u{e9}\t\"",
        "  a  =  1  ",
        "a=''",
        "a=9223372036854775807\nb='9223372036854775808'",
        "# only a comment",
    ];
    const REFUSED: [&str; 25] = [
        "a=abc",
        "a=12k",
        "a=10L",
        "a=0X10",
        "a=\"\\d\"",
        "a='\\x41'",
        "A=1",
        "_a=1",
        "a-b=1",
        "a=-1",
        "a=.5",
        "a=\"x",
        "a='x\n'",
        "a=1\r",
        "a=1 b=2",
        "a=,",
        "a=[1,,2]",
        "a=[,]",
        "a=[1;2]",
        "a=[1,2",
        "[1]",
        "a==1",
        "a\n=1",
        "a='x'\na+=[1]",
        "import os",
    ];
    let lines = |texts: &[&str]| -> Vec<Vec<u8>> {
        let line = |text: &&str| [text.as_bytes(), b"\n"].concat();
        texts.iter().map(line).collect()
    };
    assert_eq!(compare(&lines(&ACCEPTED)), ACCEPTED.len());
    assert_eq!(compare(&lines(&REFUSED)), 0);
}

/// Texts that are nearly valid, so that both parsers get far into them.
fn text() -> impl Strategy<Value = String> {
    let atom =
        "[0-9]{1,3}|0x[0-9a-f]{0,3}|'[ -&(-Z_-~]{0,5}'|\"(\\\\[abfnrtvdx'\"\\\\]|[a-z# ,]){0,4}\"";
    let list = std::format!("\\[[ \n]?(({atom}),?[ \n]?){{0,3}}\\]");
    let line = std::format!("(a|b|a\\.b|A) ?=[ ]?({atom}|{list}|[a-c]){{0,1}} ?(#[a-z=']{{0,4}})?");
    let ends = prop::sample::select(std::vec!["\n", "\n", "\n", ";", " "]);
    let line = prop::string::string_regex(&line).expect("a regular expression");
    prop::collection::vec((line, ends), 1..4)
        .prop_map(|lines| lines.into_iter().map(|(line, end)| line + end).collect())
}

#[test]
fn generated_texts() {
    let mut runner = TestRunner::deterministic();
    let texts: Vec<Vec<u8>> = (0..GENERATED)
        .map(|_| {
            let text = text().new_tree(&mut runner).expect("a text").current();
            // A comment that ends at the end of the file is accepted only by our parser.
            (text + "\n").into_bytes()
        })
        .collect();
    let accepted = compare(&texts);
    assert!(
        (GENERATED / 10..GENERATED).contains(&accepted),
        "{accepted} of {GENERATED} were accepted: too many of one kind"
    );
}
