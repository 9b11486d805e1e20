//! A bound on the strings of a JSON file: a parser holds each as a whole before anyone can look at it.

use std::io::{self, Read};

/// Passes JSON on as long as no string in it is longer than the bound.
pub(super) struct ShortStrings<R> {
    json: R,
    max_bytes: usize,
    /// Bytes so far of the string that is open.
    string: Option<usize>,
    escaped: bool,
}

impl<R> ShortStrings<R> {
    pub(super) fn new(json: R, max_bytes: usize) -> Self {
        Self {
            json,
            max_bytes,
            string: None,
            escaped: false,
        }
    }

    /// Follows the strings over the next bytes; false when one is too long.
    fn follow(&mut self, bytes: &[u8]) -> bool {
        for &byte in bytes {
            let Some(length) = &mut self.string else {
                if byte == b'"' {
                    self.string = Some(0);
                }
                continue;
            };
            *length += 1;
            if *length > self.max_bytes {
                return false;
            }
            match byte {
                _ if self.escaped => self.escaped = false,
                b'\\' => self.escaped = true,
                b'"' => self.string = None,
                _ => {}
            }
        }
        true
    }
}

impl<R: Read> Read for ShortStrings<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.json.read(buffer)?;
        if self.follow(&buffer[..count]) {
            return Ok(count);
        }
        let message = format!("a string of more than {} bytes", self.max_bytes);
        Err(io::Error::new(io::ErrorKind::InvalidData, message))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_are_bounded_wherever_reads_end() {
        for (json, passes) in [
            (r#"["abc", "abc"]"#, true),
            (r#"{"a": "abcd"}"#, false),
            (r#"["\\", abcdefgh, "\"", "ab"]"#, true),
            (r#"["\\\"a"]"#, false),
            (r#"["abcde"#, false),
        ] {
            for size in [1, 2, 3, 100] {
                let mut reader = ShortStrings::new(json.as_bytes(), 4);
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
