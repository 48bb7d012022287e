//! The data that libxl stores about a domain in files and in Xenstore, and that xl's verbs need. Written for the
//! domains of this program, so that xl can manage them.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use dom0_tools::hyper::DomId;
use dom0_tools::ops::{libxl_json, uuid_text, vm_path};
use serde_json::Value;

use crate::runtime::{Record, now};
use crate::store::Store;

/// The folder of libxl's files.
const FOLDER: &str = "/var/lib/xen";

/// libxl's private path for a domain in Xenstore, which guests can't read.
pub fn path(id: DomId) -> String {
    format!("/libxl/{id}")
}

/// Registers a domain where libxl looks for it.
///
/// # Errors
/// If the daemon refuses a request.
pub fn register(store: &mut Store, id: DomId, uuid: &[u8; 16]) -> Result<()> {
    let home = path(id);
    for (path, value) in [
        (format!("{home}/device"), ""),
        (format!("{home}/type"), "pv"),
    ] {
        store.write(&path, value)?;
    }
    // `xl uptime` reads this node.
    let started = format!("{}.00", now().unwrap_or_default());
    store.write(&format!("{}/start_time", vm_path(uuid)), &started)
}

/// The common end of the names of all files about a domain.
fn stem(record: &Record) -> String {
    format!("{}.{}", record.id, uuid_text(&record.uuid))
}

/// The file that holds the domain's configuration.
fn file(stem: &str) -> PathBuf {
    PathBuf::from(FOLDER).join(format!("userdata-d.{stem}.libxl-json"))
}

/// Reads the configuration that libxl has stored for a domain.
pub fn recall(id: DomId, uuid: &str) -> Option<Value> {
    let text = fs::read(file(&format!("{id}.{uuid}"))).ok()?;
    let text = text.split(|byte| *byte == 0).next()?;
    serde_json::from_slice(text).ok()
}

/// Stores a domain's configuration where libxl looks for it. Does nothing if libxl's folder is missing.
///
/// # Errors
/// If the file can't be written.
pub fn remember(record: &Record) -> Result<()> {
    if !Path::new(FOLDER).is_dir() {
        return Ok(());
    }
    let path = file(&stem(record));
    let json = libxl_json(&record.config, &uuid_text(&record.uuid));
    // libxl expects a NUL at the end.
    let text = format!("{json:#}\n\0");
    fs::write(&path, text).with_context(|| path.display().to_string())
}

/// Removes all files about a domain.
pub fn forget(record: &Record) {
    let about = format!(".{}.", stem(record));
    for file in fs::read_dir(FOLDER).into_iter().flatten().flatten() {
        let name = file.file_name().to_string_lossy().into_owned();
        if name.starts_with("userdata-") && name.contains(&about) {
            // libxl may have removed it already.
            let _ = fs::remove_file(file.path());
        }
    }
}
