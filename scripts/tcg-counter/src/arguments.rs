//! What QEMU's command line asks for.

/// A place that is noted when it is reached.
pub struct Mark {
    /// Its name in the output.
    pub name: String,
    /// Its virtual address.
    pub address: u64,
}

/// Addresses whose instructions are counted together.
pub struct Share {
    /// Its name in the output.
    pub name: String,
    /// The first address.
    pub from: u64,
    /// The last one.
    pub to: u64,
}

/// All of it.
#[derive(Default)]
pub struct Arguments {
    /// The output file.
    pub out: String,
    /// Counting begins behind this address …
    pub from: Option<u64>,
    /// … and ends at this one.
    pub to: Option<u64>,
    /// Places to note.
    pub marks: Vec<Mark>,
    /// Shares to tell at each of them.
    pub shares: Vec<Share>,
    /// Where runs of instructions are measured, beginning with the first mark.
    pub runs: Option<Share>,
    /// Runs shorter than this are not told.
    pub least: u64,
    /// Addresses whose execution ends a run.
    pub ends: Vec<u64>,
}

impl Arguments {
    /// Reads words `NAME=VALUE`.
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
