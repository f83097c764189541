//! Where in a channel's stream of messages somebody is.

use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr};

/// The position after a message: `epoch` names one unbroken life of the stream, `offset` counts its messages from 1.
/// Offsets of different epochs have nothing to do with each other. As text `EPOCH-OFFSET`, which fits into the header
/// `Last-Event-ID`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Position {
    /// Random, and never used again.
    pub epoch: u64,
    /// Messages of this epoch up to here.
    pub offset: u64,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}-{}", self.epoch, self.offset)
    }
}

/// The text is not `EPOCH-OFFSET`, with a hexadecimal epoch and a decimal offset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoPosition;

impl FromStr for Position {
    type Err = NoPosition;

    fn from_str(text: &str) -> Result<Self, NoPosition> {
        let (epoch, offset) = text.split_once('-').ok_or(NoPosition)?;
        let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_alphanumeric());
        if !digits(epoch) || !digits(offset) {
            return Err(NoPosition); // Such as a sign, which the number parsers take.
        }
        Ok(Self {
            epoch: u64::from_str_radix(epoch, 16).map_err(|_| NoPosition)?,
            offset: offset.parse().map_err(|_| NoPosition)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_is_read_as_it_was_written_and_nothing_else_is_one() {
        let position = Position {
            epoch: 0xabc,
            offset: 17,
        };
        assert_eq!(position.to_string(), "abc-17");
        assert_eq!("abc-17".parse(), Ok(position));
        for wrong in [
            "",
            "-",
            "abc",
            "abc-",
            "-17",
            "xyz-1",
            "abc-1-2",
            "+abc-17",
            "abc-+17",
            "abc-18446744073709551616",
        ] {
            assert_eq!(wrong.parse::<Position>(), Err(NoPosition), "{wrong}");
        }
    }
}
