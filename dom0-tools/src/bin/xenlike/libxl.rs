//! What libxl keeps of a domain in files, and xl's verbs begin with: written for the domains of this program, so that xl
//! can go on with them.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};
use dom0_tools::ops::{libxl_json, uuid_text};

use crate::runtime::Record;

/// libxl's folder.
const FOLDER: &str = "/var/lib/xen";

/// The end of the names of all files about a domain.
fn stem(record: &Record) -> String {
    format!("{}.{}", record.id, uuid_text(&record.uuid))
}

/// Writes a domain's configuration where libxl looks for it. Without its folder there is no libxl.
///
/// # Errors
/// When it can't be written.
pub fn remember(record: &Record) -> Result<()> {
    let folder = PathBuf::from(FOLDER);
    if !folder.is_dir() {
        return Ok(());
    }
    let path = folder.join(format!("userdata-d.{}.libxl-json", stem(record)));
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
