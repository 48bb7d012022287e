//! A check that must fail when a fault is present.

use anyhow::{Context, Result, bail, ensure};
use std::fmt;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use xenlike_tests::paths::build;

/// A check that takes longer has noticed the fault: none of the tests normally takes half as long.
const LIMIT_SECONDS: &str = "600";
/// If this variable is set, checks in QEMU run too.
const QEMU: &str = "XENLIKE_FAULTS_QEMU";

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Host,
    Models,
    Qemu,
}

/// A set of tests, selected by a part of their names.
pub struct Check {
    kind: Kind,
    filter: String,
}

/// The result of a check.
pub enum Verdict {
    /// The check failed, as it must; this test noticed the fault.
    Failed(String),
    /// The check didn't end.
    Hung,
    /// The check passed, with this output.
    Passed(String),
}

impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.kind {
            Kind::Host => "host",
            Kind::Models => "models",
            Kind::Qemu => "qemu",
        };
        write!(f, "{kind} {}", self.filter)
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failed(test) => write!(f, "fails ({test})"),
            Self::Hung => f.write_str("doesn't end"),
            Self::Passed(_) => f.write_str("PASSES"),
        }
    }
}

impl Check {
    /// Parses `KIND FILTER`.
    ///
    /// # Errors
    /// If the line has another form.
    pub fn parse(line: &str) -> Result<Self> {
        let (kind, filter) = line
            .trim()
            .split_once(' ')
            .context("`Fails: KIND FILTER`")?;
        let kind = match kind {
            "host" => Kind::Host,
            "models" => Kind::Models,
            "qemu" => Kind::Qemu,
            other => bail!("{other:?} is no kind of check"),
        };
        let filter = filter.trim().to_owned();
        Ok(Self { kind, filter })
    }

    /// Whether it runs by default or was asked for.
    pub fn is_asked_for(&self) -> bool {
        self.kind != Kind::Qemu || std::env::var_os(QEMU).is_some()
    }

    /// Runs the check in a copy of the tree.
    ///
    /// # Errors
    /// If the copy doesn't build: a fault must not be visible to the compiler.
    pub fn run(&self, tree: &Path) -> Result<Verdict> {
        if self.kind == Kind::Qemu {
            prepare_boot(tree)?;
        }
        let built = output(self.cargo(tree, &mut Command::new("cargo")).arg("--no-run"))?;
        ensure!(
            built.status.success(),
            "it doesn't build:\n{}",
            String::from_utf8_lossy(&built.stderr)
        );
        let mut limited = Command::new("timeout");
        limited.args([LIMIT_SECONDS, "cargo"]);
        let tests = self.cargo(tree, &mut limited);
        tests.arg("--").arg(&self.filter);
        if self.kind == Kind::Qemu {
            tests.arg("--ignored");
        }
        let ran = output(tests)?;
        let said = String::from_utf8_lossy(&ran.stdout) + String::from_utf8_lossy(&ran.stderr);
        let failed = said
            .lines()
            .find_map(|line| line.trim().strip_suffix(" stdout ----"))
            .map(|line| line.trim_start_matches("---- ").to_owned());
        Ok(match ran.status.code() {
            Some(124) => Verdict::Hung,
            Some(0) => Verdict::Passed(said.into_owned()),
            _ => Verdict::Failed(failed.unwrap_or_else(|| "it ends early".to_owned())),
        })
    }

    /// `cargo test` for the check, in the copy; `cargo` is the program.
    fn cargo<'a>(&self, tree: &Path, cargo: &'a mut Command) -> &'a mut Command {
        cargo.args(["test", "--quiet", "--package"]);
        match self.kind {
            Kind::Host => cargo.args(["xenlike-core", "--lib"]),
            Kind::Models => cargo
                .args(["xenlike-core", "--lib", "--profile", "models"])
                .env("RUSTFLAGS", "--cfg loom"),
            Kind::Qemu => cargo.args(["xenlike-tests", "--tests"]),
        };
        let target = match self.kind {
            Kind::Models => "faults/models",
            Kind::Host | Kind::Qemu => "faults/host",
        };
        // Otherwise a failing case that a random test found earlier would be tried first, and stored.
        cargo.env("PROPTEST_FAILURE_PERSISTENCE", "off");
        cargo.env("CARGO_TARGET_DIR", build(target));
        cargo.current_dir(tree)
    }
}

fn output(command: &mut Command) -> Result<Output> {
    let command = command.stdin(Stdio::null());
    command.output().context("cargo")
}

/// Builds what boots from the copy, with Debian's parts from the original.
fn prepare_boot(tree: &Path) -> Result<()> {
    let parts = tree.join("build/debian");
    if !parts.exists() {
        std::fs::create_dir_all(tree.join("build"))?;
        std::os::unix::fs::symlink(build("debian"), &parts)?;
    }
    let mut cargo = Command::new("cargo");
    cargo.args(["run", "--quiet", "--package", "xtask", "--", "build"]);
    cargo.env("CARGO_TARGET_DIR", build("faults/host"));
    let built = output(cargo.current_dir(tree))?;
    ensure!(
        built.status.success(),
        "it doesn't build:\n{}",
        String::from_utf8_lossy(&built.stderr)
    );
    Ok(())
}
