//! Kernel modules of a Debian kernel package: finds them by name, unpacks them, and resolves dependencies.

use anyhow::{Context, Result, bail};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The modules of one kernel.
pub struct Modules {
    /// Paths by name, with `_` in place of `-`, as in the kernel.
    files: BTreeMap<String, PathBuf>,
}

fn plain(name: &str) -> String {
    name.replace('-', "_")
}

impl Modules {
    /// Finds the modules in a package that is unpacked at `tree`.
    ///
    /// # Errors
    /// If the package can't be read.
    pub fn below(tree: &Path) -> Result<Self> {
        let mut files = BTreeMap::new();
        collect(tree, &mut files)?;
        Ok(Self { files })
    }

    /// The contents of a module, unpacked.
    ///
    /// # Errors
    /// If there is no such module, or it can't be unpacked.
    pub fn content(&self, name: &str) -> Result<Vec<u8>> {
        let path = self.files.get(&plain(name));
        let path = path.with_context(|| format!("the kernel package has no {name}.ko"))?;
        if path.extension().is_none_or(|extension| extension != "xz") {
            return Ok(fs::read(path)?);
        }
        let unpacked = Command::new("xz").arg("-dc").arg(path).output()?;
        if !unpacked.status.success() {
            let cause = String::from_utf8_lossy(&unpacked.stderr).into_owned();
            bail!("{}: {cause}", path.display());
        }
        Ok(unpacked.stdout)
    }

    /// These modules and all that they depend on, in an order in which they can be loaded.
    ///
    /// # Errors
    /// If a module is missing.
    pub fn with_dependencies(&self, names: &[&str]) -> Result<Vec<String>> {
        let mut ordered = Vec::new();
        for name in names {
            self.add(&plain(name), &mut ordered)?;
        }
        Ok(ordered)
    }

    fn add(&self, name: &str, ordered: &mut Vec<String>) -> Result<()> {
        if ordered.iter().any(|have| have == name) {
            return Ok(());
        }
        for dependency in dependencies(&self.content(name)?) {
            self.add(&dependency, ordered)?;
        }
        ordered.push(name.to_owned());
        Ok(())
    }
}

/// The names after `depends=` in a module's information section.
fn dependencies(module: &[u8]) -> Vec<String> {
    let text = module
        .split(|byte| *byte == 0)
        .find_map(|word| word.strip_prefix(b"depends="));
    let text = String::from_utf8_lossy(text.unwrap_or_default()).into_owned();
    let names = text.split(',').filter(|name| !name.is_empty());
    names.map(plain).collect()
}

fn collect(folder: &Path, files: &mut BTreeMap<String, PathBuf>) -> Result<()> {
    let entries = fs::read_dir(folder).with_context(|| folder.display().to_string())?;
    for entry in entries {
        let path = entry?.path();
        if path.is_dir() && !path.is_symlink() {
            collect(&path, files)?;
        } else if let Some(name) = path.file_name().and_then(|name| name.to_str())
            && let Some((module, rest)) = name.split_once(".ko")
            && matches!(rest, "" | ".xz")
        {
            files.insert(plain(module), path.clone());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dependencies_are_read_from_the_information() {
        let module = b"\x7fELF..\0license=GPL\0depends=xhci-hcd,usbcore\0name=xhci_pci\0";
        assert_eq!(dependencies(module), ["xhci_hcd", "usbcore"]);
        assert!(dependencies(b"depends=\0").is_empty() && dependencies(b"").is_empty());
    }
}
