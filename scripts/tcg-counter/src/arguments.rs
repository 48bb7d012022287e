//! The plug-in's arguments on QEMU's command line.

/// An address that is recorded when it is executed.
pub struct Mark {
    /// Its name in the output.
    pub name: String,
    /// Its virtual address.
    pub address: u64,
}

/// A range of addresses whose instructions are counted together.
pub struct Share {
    /// Its name in the output.
    pub name: String,
    /// The first address of the range.
    pub from: u64,
    /// The last address of the range.
    pub to: u64,
}

/// All arguments of the plug-in.
#[derive(Default)]
pub struct Arguments {
    /// Path of the output file.
    pub out: String,
    /// Counting begins after this address is executed …
    pub from: Option<u64>,
    /// … and ends when this one is executed.
    pub to: Option<u64>,
    /// Addresses to record.
    pub marks: Vec<Mark>,
    /// Shares whose counts are written at each mark.
    pub shares: Vec<Share>,
    /// The addresses at which runs are measured, from the first execution of `from` on.
    pub runs: Option<Share>,
    /// Minimum length of a run to be written.
    pub least: u64,
    /// Addresses whose execution ends a run.
    pub ends: Vec<u64>,
}

impl Arguments {
    /// Parses words of the form `NAME=VALUE`.
    pub fn parse(words: &[String]) -> Result<Self, String> {
        let mut arguments = Self::default();
        for word in words {
            let (name, value) = word.split_once('=').ok_or("NAME=VALUE is wanted")?;
            match name {
                "out" => value.clone_into(&mut arguments.out),
                "from" => arguments.from = Some(address(value)?),
                "to" => arguments.to = Some(address(value)?),
                "mark" => arguments.marks.push(mark(value)?),
                "runs" => arguments.runs = Some(share(value)?),
                "least" => arguments.least = value.parse().map_err(|_| "least=NUMBER")?,
                "end" => arguments.ends.push(address(value)?),
                "share" => arguments.shares.push(share(value)?),
                _ => return Err(format!("{name}: unknown")),
            }
        }
        if arguments.out.is_empty() {
            return Err("out=FILE is wanted".to_owned());
        }
        Ok(arguments)
    }
}

fn mark(text: &str) -> Result<Mark, String> {
    let (name, value) = text.split_once('@').ok_or("mark=NAME@ADDRESS")?;
    Ok(Mark {
        name: name.to_owned(),
        address: address(value)?,
    })
}

fn share(text: &str) -> Result<Share, String> {
    let (name, range) = text.split_once('@').ok_or("share=NAME@FROM-TO")?;
    let (from, to) = range.split_once('-').ok_or("share=NAME@FROM-TO")?;
    Ok(Share {
        name: name.to_owned(),
        from: address(from)?,
        to: address(to)?,
    })
}

fn address(text: &str) -> Result<u64, String> {
    let digits = text.strip_prefix("0x").unwrap_or(text);
    u64::from_str_radix(digits, 16).map_err(|error| format!("{text}: {error}"))
}
