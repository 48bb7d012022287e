//! The shell's files: boot modules that have a name, or the members of an initrd archive.

use alloc::borrow::Cow;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use dom0_tools::boot::{Purpose, archive};
use dom0_tools::ops::Files;
use dom0_tools::shell::FileList;
use xenlike_rt::modules::Module;

/// The files, with their names.
pub struct Modules(Vec<(String, &'static [u8])>);

impl Modules {
    /// Collects the files. Of two files with the same name, the first is used.
    pub fn new(modules: &[Module], purposes: &[Purpose], initrd: Option<&'static [u8]>) -> Modules {
        let named = modules
            .iter()
            .zip(purposes)
            .filter_map(|(module, purpose)| match purpose {
                Purpose::File(name) if !name.is_empty() => Some((*name, module.bytes)),
                _ => None,
            });
        let members = archive::files(initrd.unwrap_or_default());
        let mut files: Vec<(String, &'static [u8])> = Vec::new();
        for (name, bytes) in named.chain(members) {
            if !files.iter().any(|(known, _)| known == name) {
                files.push((name.to_string(), bytes));
            }
        }
        Modules(files)
    }

    /// The text of a small file.
    pub fn text(&self, name: &str) -> Option<String> {
        let (_, bytes) = self.0.iter().find(|(known, _)| known == name)?;
        core::str::from_utf8(bytes).ok().map(ToString::to_string)
    }
}

impl Files for Modules {
    fn read(&self, name: &str) -> Result<Cow<'_, [u8]>, String> {
        // A path, as for a file on a disk, names the module that has its last component as name.
        let last = name.rsplit('/').next().unwrap_or(name);
        let find = |wanted: &str| self.0.iter().find(|(known, _)| known == wanted);
        match find(name).or_else(|| find(last)) {
            Some((_, bytes)) => Ok(Cow::Borrowed(bytes)),
            None => Err(format!(
                "{name}: there is no such file; `ls` shows the files"
            )),
        }
    }
}

impl FileList for Modules {
    fn list(&self) -> Vec<(String, u64)> {
        self.0
            .iter()
            .map(|(name, bytes)| (name.clone(), bytes.len() as u64))
            .collect()
    }
}
