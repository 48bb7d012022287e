//! The manifest: the domains that start at boot, encoded with postcard by `xenlike manifest` on a host.
//!
//! It contains the parsed configurations, and the names of the files that they need. The files themselves
//! are separate boot modules.

use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;

use serde::{Deserialize, Serialize};

use crate::config::DomainConfig;

/// The first bytes of a manifest, which tell it from other files.
const MAGIC: &[u8; 8] = b"XLMANIF\n";
/// Version of the encoding; changes whenever [`DomainConfig`] does.
const VERSION: u32 = 1;

/// The domains to start, in order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// The configurations of the domains.
    pub domains: Vec<DomainConfig>,
}

/// Why bytes are not a manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ManifestError(String);

impl fmt::Display for ManifestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "manifest: {}", self.0)
    }
}

impl core::error::Error for ManifestError {}

impl Manifest {
    /// Encodes the manifest.
    ///
    /// # Errors
    /// If two domains have the same name, or a configuration can't be encoded.
    pub fn encode(&self) -> Result<Vec<u8>, ManifestError> {
        self.check()?;
        let body = postcard::to_allocvec(&(VERSION, self))
            .map_err(|error| ManifestError(error.to_string()))?;
        Ok([&MAGIC[..], &body].concat())
    }

    /// Decodes a manifest.
    ///
    /// # Errors
    /// A message about the fault.
    pub fn decode(bytes: &[u8]) -> Result<Manifest, ManifestError> {
        let fault = |cause: &str| ManifestError(cause.to_string());
        let body = bytes
            .strip_prefix(MAGIC)
            .ok_or_else(|| fault("not made by `xenlike manifest`"))?;
        let (version, rest): (u32, _) =
            postcard::take_from_bytes(body).map_err(|_| fault("it is cut off"))?;
        if version != VERSION {
            let cause =
                alloc::format!("its version is {version}, this hypervisor reads version {VERSION}");
            return Err(ManifestError(cause));
        }
        let (manifest, rest): (Manifest, _) = postcard::take_from_bytes(rest)
            .map_err(|error| ManifestError(alloc::format!("it is damaged: {error}")))?;
        // GRUB and QEMU may pad a module with zeros.
        if rest.iter().any(|&byte| byte != 0) {
            return Err(fault("bytes after its end"));
        }
        manifest.check()?;
        Ok(manifest)
    }

    fn check(&self) -> Result<(), ManifestError> {
        for (number, domain) in self.domains.iter().enumerate() {
            if self
                .domains
                .iter()
                .take(number)
                .any(|other| other.name == domain.name)
            {
                let cause = alloc::format!("two domains are called {}", domain.name);
                return Err(ManifestError(cause));
            }
        }
        Ok(())
    }

    /// The names of all files that the domains need, without duplicates.
    #[must_use]
    pub fn files(&self) -> Vec<&str> {
        let mut names = Vec::new();
        for domain in &self.domains {
            for name in core::iter::once(&domain.kernel).chain(&domain.ramdisk) {
                if !names.contains(&name.as_str()) {
                    names.push(name);
                }
            }
        }
        names
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;
    use proptest::prelude::*;

    fn manifest() -> Manifest {
        let text = "kernel='k'\nramdisk='i'\ncpus='0-2'\nvcpus=3\non_crash='preserve'";
        let one = config::parse("one.cfg", text.as_bytes(), &[])
            .unwrap()
            .config;
        let two = config::parse("two.cfg", b"kernel='k'\nmemory=64", &[])
            .unwrap()
            .config;
        Manifest {
            domains: alloc::vec![one, two],
        }
    }

    #[test]
    fn comes_back_as_it_was() {
        let bytes = manifest().encode().unwrap();
        assert_eq!(Manifest::decode(&bytes).unwrap(), manifest());
        assert_eq!(
            Manifest::decode(&[&bytes[..], &[0; 9]].concat()).unwrap(),
            manifest()
        );
        assert_eq!(manifest().files(), ["k", "i"]);
    }

    #[test]
    fn names_are_unique() {
        let mut manifest = manifest();
        manifest.domains[1].name = "one".into();
        assert!(
            manifest
                .encode()
                .unwrap_err()
                .to_string()
                .contains("two domains are called one")
        );
    }

    #[test]
    fn every_truncation_is_told() {
        let bytes = manifest().encode().unwrap();
        for len in 0..bytes.len() {
            assert!(Manifest::decode(&bytes[..len]).is_err(), "{len}");
        }
    }

    proptest! {
        #[test]
        fn damage_never_panics(at in 8_usize..120, byte: u8) {
            let mut bytes = manifest().encode().unwrap();
            if let Some(place) = bytes.get_mut(at) {
                *place = byte;
            }
            let _ = Manifest::decode(&bytes);
        }
    }
}
