//! A client of the Xenstore daemon, which stores the names of domains (io/xs_wire.h).

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;

use anyhow::{Result, bail};
use dom0_tools::hyper::{DomId, Port, event};
use guest_pv_abi::io_xenbus::{
    SockMsg, XS_ERROR, XS_INTRODUCE, XS_READ, XS_RM, XS_SET_PERMS, XS_WRITE,
};
use zerocopy::IntoBytes;

use crate::privcmd::Privcmd;

/// The daemon's socket, and the kernel's device for a daemon in another domain.
const SOCKET: &str = "/run/xenstored/socket";
const DEVICE: &str = "/dev/xen/xenbus";
/// The kernel's port of the event channel to the daemon.
const KERNEL_PORT: &str = "/proc/xen/xsd_port";
/// Maximum length of an answer (`XENSTORE_PAYLOAD_MAX`).
const MAX_PAYLOAD: u32 = 4096;

trait Wire: Read + Write {}
impl Wire for UnixStream {}
impl Wire for File {}

/// A connection to the daemon.
pub struct Store {
    wire: Box<dyn Wire>,
}

impl Store {
    /// Connects; returns `None` if there is no Xenstore.
    pub fn open() -> Option<Store> {
        if let Ok(socket) = UnixStream::connect(SOCKET) {
            return Some(Store {
                wire: Box::new(socket),
            });
        }
        // The device accepts requests without a daemon, and answers only once a daemon has connected to its channel.
        let port = fs::read_to_string(KERNEL_PORT).ok()?.trim().parse().ok()?;
        if !event::is_connected(&mut Privcmd::open().ok()?, DomId::ZERO, Port(port)).ok()? {
            return None;
        }
        let file = OpenOptions::new().read(true).write(true).open(DEVICE);
        Some(Store {
            wire: Box::new(file.ok()?),
        })
    }

    /// Sends a request and returns the answer. In the payload, NUL terminates each part but the last.
    fn ask(&mut self, kind: u32, payload: &[u8]) -> Result<Vec<u8>> {
        let header = SockMsg {
            type_: kind,
            len: payload.len() as u32,
            ..Default::default()
        };
        self.wire
            .write_all(&[header.as_bytes(), payload].concat())?;
        loop {
            let mut header = SockMsg::default();
            self.wire.read_exact(header.as_mut_bytes())?;
            if header.len > MAX_PAYLOAD {
                bail!("Xenstore: an answer of {} bytes", header.len);
            }
            let mut answer = vec![0; header.len as usize];
            self.wire.read_exact(&mut answer)?;
            match header.type_ {
                XS_ERROR => bail!(
                    "Xenstore: {}",
                    String::from_utf8_lossy(&answer).trim_end_matches('\0')
                ),
                answered if answered == kind => return Ok(answer),
                // A watch event, which this program never requests.
                _ => {}
            }
        }
    }

    /// Reads a node's value.
    ///
    /// # Errors
    /// If the node doesn't exist.
    pub fn read(&mut self, path: &str) -> Result<String> {
        let value = self.ask(XS_READ, format!("{path}\0").as_bytes())?;
        Ok(String::from_utf8_lossy(&value).into_owned())
    }

    /// Sets a node's value; creates the node if it doesn't exist.
    ///
    /// # Errors
    /// If the daemon refuses the request.
    pub fn write(&mut self, path: &str, value: &str) -> Result<()> {
        self.ask(XS_WRITE, format!("{path}\0{value}").as_bytes())
            .map(drop)
    }

    /// Removes a node and everything below it.
    ///
    /// # Errors
    /// If the daemon refuses the request.
    pub fn remove(&mut self, path: &str) -> Result<()> {
        self.ask(XS_RM, format!("{path}\0").as_bytes()).map(drop)
    }

    /// Sets the permissions of a node, each in the syntax of `xenstore-chmod`.
    ///
    /// # Errors
    /// If the daemon refuses the request.
    pub fn set_permissions(&mut self, path: &str, permissions: &[String]) -> Result<()> {
        let request = format!("{path}\0{}\0", permissions.join("\0"));
        self.ask(XS_SET_PERMS, request.as_bytes()).map(drop)
    }

    /// Tells the daemon about a domain's ring.
    ///
    /// # Errors
    /// If the daemon refuses the request.
    pub fn introduce(&mut self, id: DomId, frame: u64, port: u32) -> Result<()> {
        self.ask(XS_INTRODUCE, format!("{id}\0{frame}\0{port}\0").as_bytes())
            .map(drop)
    }
}
