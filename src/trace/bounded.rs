//! Bounds on a JSON file's strings and depth: a parser holds each string as a whole, and a byte for each list or
//! object that is open, before anyone can look at them.

use std::io::{self, Read};

/// Lists and objects in each other; the parser's own bound for values that are read.
const MAX_DEPTH: usize = 128;

/// Passes JSON on as long as no string in it is longer than the bound, and nothing nested deeper.
pub(super) struct Bounded<R> {
    json: R,
    max_bytes: usize,
    depth: usize,
    /// Bytes so far of the string that is open.
    string: Option<usize>,
    escaped: bool,
}

impl<R> Bounded<R> {
    pub(super) fn new(json: R, max_bytes: usize) -> Self {
        Self {
            json,
            max_bytes,
            depth: 0,
            string: None,
            escaped: false,
        }
    }

    /// Follows strings and depth over the next bytes; says what is too much.
    fn follow(&mut self, bytes: &[u8]) -> Result<(), String> {
        for &byte in bytes {
            let Some(length) = &mut self.string else {
                match byte {
                    b'"' => self.string = Some(0),
                    b'[' | b'{' if self.depth == MAX_DEPTH => {
                        return Err(format!(
                            "more than {MAX_DEPTH} lists and objects in each other"
                        ));
                    }
                    b'[' | b'{' => self.depth += 1,
                    b']' | b'}' => self.depth = self.depth.saturating_sub(1),
                    _ => {}
                }
                continue;
            };
            *length += 1;
            if *length > self.max_bytes {
                return Err(format!("a string of more than {} bytes", self.max_bytes));
            }
            match byte {
                _ if self.escaped => self.escaped = false,
                b'\\' => self.escaped = true,
                b'"' => self.string = None,
                _ => {}
            }
        }
        Ok(())
    }
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.json.read(buffer)?;
        let followed = self.follow(&buffer[..count]);
        followed.map_err(|message| io::Error::new(io::ErrorKind::InvalidData, message))?;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_and_depth_are_bounded_wherever_reads_end() {
        let nested = |depth| "[{".repeat(depth / 2) + r#""]]""# + &"}]".repeat(depth / 2) + "[]";
        for (json, passes) in [
            (&*nested(MAX_DEPTH), true),
            (&nested(MAX_DEPTH + 2), false),
            (r#"["abc", "abc"]"#, true),
            (r#"{"a": "abcd"}"#, false),
            (r#"["\\", abcdefgh, "\"", "ab"]"#, true),
            (r#"["\\\"a"]"#, false),
            (r#"["abcde"#, false),
        ] {
            for size in [1, 2, 3, 100] {
                let mut reader = Bounded::new(json.as_bytes(), 4);
                let mut buffer = vec![0; size];
                let outcome = loop {
                    match reader.read(&mut buffer) {
                        Ok(0) => break true,
                        Ok(_) => {}
                        Err(_) => break false,
                    }
                };
                assert_eq!(outcome, passes, "{json} in reads of {size}");
            }
        }
    }
}
