//! RELP frames: what is sent, and a parser of what the receiver says.
//!
//! ```text
//! TXNR SP COMMAND SP DATALEN [SP DATA] LF        TXNR: 1 to 999,999,999, 0 in hints; DATALEN in decimal
//! ```
//!
//! A receiver's answer has the command `rsp` and the number of what it answers; its data begins with a code of three
//! digits (200: done) and a text for people. Source: the RELP specification, <https://www.rsyslog.com/doc/relp.html>.

use std::io::Write as _;
use std::ops::Range;

use crate::limits;

/// The numbers run from 1 to this one and begin anew.
const LAST: u32 = 999_999_999;
/// Bytes of a command's name; the specification has none longer than 10.
const COMMAND_BYTES: usize = 32;
/// Digits of a number.
const DIGITS: usize = 9;

/// The number of a frame, of those that count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Number(u32);

impl Number {
    /// The first of a connection.
    pub const FIRST: Number = Number(1);

    /// The one `by` places further on.
    pub fn plus(self, by: usize) -> Number {
        let by = (by % LAST as usize) as u32;
        Number((self.0 - 1 + by) % LAST + 1)
    }

    /// How many places it is behind `start`.
    pub fn since(self, start: Number) -> usize {
        ((self.0 + LAST - start.0) % LAST) as usize
    }
}

/// Adds a frame to `out`.
pub fn append(number: Number, command: &str, data: &[u8], out: &mut Vec<u8>) {
    // writing to a Vec cannot fail
    let _ = write!(out, "{} {command} {}", number.0, data.len());
    if !data.is_empty() {
        out.push(b' ');
        out.extend_from_slice(data);
    }
    out.push(b'\n');
}

/// What a receiver may say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Said<'a> {
    /// The answer to a frame: its code, and what stands behind that.
    Answer(Number, u16, &'a [u8]),
    /// It is going to close (`serverclose`).
    Closing,
    /// Anything else: nothing that needs an answer.
    Other,
}

/// Not RELP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotRelp;

/// The first frame in `bytes` and how long it is; `None`: there is more to come. A frame is at most
/// [`limits::RELP_FRAME_BYTES`] long: so many bytes always hold one, or are not RELP.
pub fn parse(bytes: &[u8]) -> Result<Option<(Said<'_>, usize)>, NotRelp> {
    let Some(number) = word(bytes, 0, DIGITS, u8::is_ascii_digit)? else { return Ok(None) };
    let Some(command) = word(bytes, number.end + 1, COMMAND_BYTES, u8::is_ascii_alphabetic)? else {
        return Ok(None);
    };
    if bytes[number.end] != b' ' || bytes[command.end] != b' ' {
        return Err(NotRelp);
    }
    let Some(length) = word(bytes, command.end + 1, DIGITS, u8::is_ascii_digit)? else { return Ok(None) };
    let (number, data_len) = (decimal(&bytes[number])?, decimal(&bytes[length.clone()])? as usize);
    if data_len > limits::RELP_FRAME_BYTES / 2 {
        return Err(NotRelp);
    }
    // librelp writes the space before data that is not there, too
    let start = length.end + usize::from(bytes[length.end] == b' ');
    let end = if data_len == 0 { start } else { length.end + 1 + data_len };
    if data_len > 0 && bytes[length.end] != b' ' {
        return Err(NotRelp);
    }
    match bytes.get(end) {
        None => return Ok(None),
        Some(b'\n') => {}
        Some(_) => return Err(NotRelp),
    }
    let data = &bytes[start..end];
    let said = match &bytes[command] {
        b"rsp" => {
            let number = if (1..=LAST).contains(&number) { Number(number) } else { return Err(NotRelp) };
            answer(number, data)?
        }
        b"serverclose" => Said::Closing,
        _ => Said::Other,
    };
    Ok(Some((said, end + 1)))
}

fn answer(number: Number, data: &[u8]) -> Result<Said<'_>, NotRelp> {
    // the answer to `close` has no code
    if data.is_empty() {
        return Ok(Said::Answer(number, 200, data));
    }
    let (code, text) = data.split_at_checked(3).ok_or(NotRelp)?;
    if !code.iter().all(u8::is_ascii_digit) {
        return Err(NotRelp);
    }
    let code = decimal(code)? as u16; // three digits
    Ok(Said::Answer(number, code, text.strip_prefix(b" ").unwrap_or(text)))
}

/// The word of 1 to `most` bytes that begins at `start` and is followed by something; `None`: there is more to come.
fn word(
    bytes: &[u8],
    start: usize,
    most: usize,
    belongs: impl Fn(&u8) -> bool,
) -> Result<Option<Range<usize>>, NotRelp> {
    let rest = bytes.get(start..).unwrap_or_default();
    let len = rest.iter().take(most + 1).take_while(|&byte| belongs(byte)).count();
    match len {
        _ if len > most => Err(NotRelp),
        _ if len == rest.len() => Ok(None),
        0 => Err(NotRelp),
        _ => Ok(Some(start..start + len)),
    }
}

fn decimal(digits: &[u8]) -> Result<u32, NotRelp> {
    std::str::from_utf8(digits).ok().and_then(|digits| digits.parse().ok()).ok_or(NotRelp)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_written_as_librelp_does() {
        let mut out = Vec::new();
        append(Number::FIRST, "open", b"relp_version=0", &mut out);
        append(Number(2), "syslog", b"<1>1 - x", &mut out);
        append(Number(3), "close", b"", &mut out);
        assert_eq!(out, b"1 open 14 relp_version=0\n2 syslog 8 <1>1 - x\n3 close 0\n");
    }

    #[test]
    fn numbers_begin_anew_behind_the_last() {
        assert_eq!(Number(LAST).plus(1), Number::FIRST);
        assert_eq!(Number(LAST - 1).plus(5), Number(4));
        assert_eq!(Number(4).since(Number(LAST - 1)), 5);
        assert_eq!(Number(7).since(Number(7)), 0);
    }

    #[test]
    fn what_receivers_say_is_understood_and_comes_in_pieces() {
        let text =
            "OK\nrelp_version=0\nrelp_software=librelp,1.11.0,http://librelp.adiscon.com\ncommands=syslog\n";
        let open = format!("1 rsp {} 200 {text}\n", text.len() + 4);
        let whole = [
            (open.as_bytes(), Said::Answer(Number(1), 200, text.as_bytes())),
            (b"2 rsp 6 200 OK\n", Said::Answer(Number(2), 200, b"OK")),
            (b"17 rsp 13 500 not taken\n", Said::Answer(Number(17), 500, b"not taken")),
            (b"3 rsp 0\n", Said::Answer(Number(3), 200, b"")),
            (b"3 rsp 0 \n", Said::Answer(Number(3), 200, b"")),
            (b"0 serverclose 0\n", Said::Closing),
            (b"0 hint 3 a\nb\n", Said::Other),
        ];
        for (bytes, said) in whole {
            for cut in 0..bytes.len() {
                let part = parse(&bytes[..cut]);
                assert_eq!(part, Ok(None), "{:?}", String::from_utf8_lossy(&bytes[..cut]));
            }
            assert_eq!(parse(bytes), Ok(Some((said.clone(), bytes.len()))));
            let more = [bytes, b"9 rsp"].concat();
            assert_eq!(parse(&more), Ok(Some((said, bytes.len()))));
        }
    }

    #[test]
    fn what_is_no_relp_is_refused_before_it_is_long() {
        for bytes in [
            &b"HTTP/1.1 400 Bad Request\r\n"[..],
            b"1  rsp 0\n",
            b"1 rsp 6 2x0 OK\n",
            b"1 rsp 2 20\n",
            b"1 rsp 6 200 OK!",
            b"1 rsp 999999 200",
            b"1234567890 rsp 0\n",
            b"0 rsp 6 200 OK\n",
            b"1 abcdefghijklmnopqrstuvwxyzabcdefghi 0\n",
            b"\n",
            b"\x15\x03\x03\x00\x02\x02",
        ] {
            assert_eq!(parse(bytes), Err(NotRelp), "{:?}", String::from_utf8_lossy(bytes));
        }
    }
}
