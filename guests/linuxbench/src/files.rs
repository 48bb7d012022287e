//! Rows about files in memory, and a load like a compiler's.

use crate::window::timed;
use std::env;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{self, Command};
use std::sync::atomic::{AtomicU32, Ordering};

/// A folder for files. Dropping it removes the folder.
pub struct Folder(PathBuf);

static FOLDERS: AtomicU32 = AtomicU32::new(0);

impl Folder {
    /// Creates an empty folder.
    pub fn new() -> io::Result<Self> {
        let number = FOLDERS.fetch_add(1, Ordering::Relaxed);
        let path = env::temp_dir().join(format!("linuxbench-{}-{number}", process::id()));
        fs::create_dir(&path)?;
        Ok(Self(path))
    }

    /// The path of a file in the folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // If it remains, it takes memory until the machine is off.
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Creates and deletes an empty file.
pub fn create_and_delete(operations: u32) -> io::Result<u64> {
    let folder = Folder::new()?;
    let path = folder.path("file");
    timed(|| {
        for _ in 0..operations {
            File::create_new(&path)?;
            fs::remove_file(&path)?;
        }
        Ok(())
    })
}

/// Writes sources, runs each through a pipeline of programs into its own result, and all results into one archive.
const COMPILE: &str = r#"
set -e
for n in 1 2 3 4 5 6 7 8; do
  i=0
  while [ $i -lt 40 ]; do
    echo "int f_${n}_$i(int x) { return x * $i + $n; } /* note $i */"
    i=$((i + 1))
  done > $n.c
done
for n in 1 2 3 4 5 6 7 8; do
  sed -e 's,/\*.*\*/,,' $n.c | awk '{ print NR, $2, $NF }' | sort -k2 > $n.i
  grep -c f_$n $n.i > $n.s
  gzip -c $n.i > $n.o
done
tar cf all.a *.o
md5sum all.a > sum
"#;

/// Runs the script, with busybox's shell and programs where those are in the path.
pub fn compile(operations: u32) -> io::Result<u64> {
    let mut ticks = 0;
    for _ in 0..operations {
        let folder = Folder::new()?;
        ticks += timed(|| script(&folder.0))?;
    }
    Ok(ticks)
}

fn script(folder: &Path) -> io::Result<()> {
    let mut shell = Command::new("sh");
    let status = shell.args(["-c", COMPILE]).current_dir(folder).status()?;
    if !status.success() {
        return Err(io::Error::other("the load like a compiler's failed"));
    }
    Ok(())
}
