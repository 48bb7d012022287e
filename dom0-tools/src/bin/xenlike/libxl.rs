//! What libxl keeps of a domain, in files and in Xenstore, and xl's verbs begin with: written for the domains of this
//! program, so that xl can go on with them.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use dom0_tools::hyper::DomId;
use dom0_tools::ops::{libxl_json, uuid_text, vm_path};
use serde_json::Value;

use crate::runtime::{Record, now};
use crate::store::Store;

/// libxl's folder.
const FOLDER: &str = "/var/lib/xen";

/// libxl's own folder about a domain in Xenstore, which no guest can read.
pub fn path(id: DomId) -> String {
    format!("/libxl/{id}")
}

/// Enters a domain where libxl looks for it.
///
/// # Errors
/// The daemon's refusal.
pub fn register(store: &mut Store, id: DomId, uuid: &[u8; 16]) -> Result<()> {
    let home = path(id);
    for (path, value) in [
        (format!("{home}/device"), ""),
        (format!("{home}/type"), "pv"),
    ] {
        store.write(&path, value)?;
    }
    // For `xl uptime`.
    let started = format!("{}.00", now().unwrap_or_default());
    store.write(&format!("{}/start_time", vm_path(uuid)), &started)
}

/// The end of the names of all files about a domain.
fn stem(record: &Record) -> String {
    format!("{}.{}", record.id, uuid_text(&record.uuid))
}

/// The file with its configuration.
fn file(stem: &str) -> PathBuf {
    PathBuf::from(FOLDER).join(format!("userdata-d.{stem}.libxl-json"))
}

/// The configuration that libxl keeps of a domain.
pub fn recall(id: DomId, uuid: &str) -> Option<Value> {
    let text = fs::read(file(&format!("{id}.{uuid}"))).ok()?;
    let text = text.split(|byte| *byte == 0).next()?;
    serde_json::from_slice(text).ok()
}

/// Writes a domain's configuration where libxl looks for it. Without its folder there is no libxl.
///
/// # Errors
/// When it can't be written.
pub fn remember(record: &Record) -> Result<()> {
    if !Path::new(FOLDER).is_dir() {
        return Ok(());
    }
    let path = file(&stem(record));
    let json = libxl_json(&record.config, &uuid_text(&record.uuid));
    // libxl reads the NUL too.
    let text = format!("{json:#}\n\0");
    fs::write(&path, text).with_context(|| path.display().to_string())
}

/// Removes all files about a domain.
pub fn forget(record: &Record) {
    let about = format!(".{}.", stem(record));
    for file in fs::read_dir(FOLDER).into_iter().flatten().flatten() {
        let name = file.file_name().to_string_lossy().into_owned();
        if name.starts_with("userdata-") && name.contains(&about) {
            // libxl may have removed it.
            let _ = fs::remove_file(file.path());
        }
    }
}
