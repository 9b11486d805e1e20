//! The size of the pictures.

use super::in_range;
use crate::error::Result;

/// Sides of a picture in pixels.
const SIDE: std::ops::RangeInclusive<usize> = 16..=4096;

/// The flags that set the size.
#[derive(Debug, Clone, Copy, Default)]
#[expect(missing_docs, reason = "the flags of the same names")]
pub struct SizeArgs {
    pub width: Option<usize>,
    pub height: Option<usize>,
    /// Width and height of the largest preset given; wins over the others.
    pub preset: Option<(usize, usize)>,
}

impl SizeArgs {
    /// Width and height: a preset, what was given, the missing side in the default's proportion.
    pub(crate) fn resolve(
        self,
        default: (usize, usize),
        warnings: &mut Vec<String>,
    ) -> Result<(usize, usize)> {
        // Upstream derives a missing side from 16:9, not from its default of 1280x720 pixels.
        let (across, down) = if default.0 == default.1 {
            (1, 1)
        } else {
            (16, 9)
        };
        for (flag, side) in [("--width", self.width), ("--height", self.height)] {
            if let Some(side) = side {
                in_range(flag, side, SIDE)?;
            }
        }
        if self.preset.is_some() && (self.width.is_some() || self.height.is_some()) {
            warnings.push("--width and --height have no effect beside a size by name".to_owned());
        }
        let (width, height) = match (self.preset, self.width, self.height) {
            (Some(preset), ..) => preset,
            (None, None, None) => default,
            (None, Some(width), None) => (width, width * down / across),
            (None, None, Some(height)) => (height * across / down, height),
            (None, Some(width), Some(height)) => (width, height),
        };
        // A side that was not given follows from the other.
        let flags = match (self.width, self.height) {
            (None, Some(_)) => ["--height makes --width", "--height"],
            (Some(_), None) => ["--width", "--width makes --height"],
            _ => ["--width", "--height"],
        };
        in_range(flags[0], width, SIDE)?;
        in_range(flags[1], height, SIDE)?;
        let rounded = (width / 16 * 16, height / 16 * 16);
        if rounded != (width, height) {
            warnings.push(format!(
                "{width}x{height} is rounded down to {}x{}: sides are multiples of 16",
                rounded.0, rounded.1
            ));
        }
        Ok(rounded)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn size(width: Option<usize>, height: Option<usize>) -> Result<(usize, usize)> {
        let preset = None;
        let size = SizeArgs {
            width,
            height,
            preset,
        };
        size.resolve((1280, 720), &mut Vec::new())
    }

    #[test]
    fn a_missing_side_follows_from_16_to_9() -> Result<()> {
        assert_eq!(size(None, None)?, (1280, 720));
        assert_eq!(size(Some(1664), None)?, (1664, 928));
        assert_eq!(size(None, Some(720))?, (1280, 720));
        assert!(size(Some(15), None).is_err());
        assert!(size(Some(usize::MAX), None).is_err());
        Ok(())
    }

    #[test]
    fn sides_are_rounded_down_with_a_warning() -> Result<()> {
        let mut warnings = Vec::new();
        let (width, height) = (Some(100), Some(70));
        let preset = None;
        let size = SizeArgs {
            width,
            height,
            preset,
        };
        assert_eq!(size.resolve((1280, 720), &mut warnings)?, (96, 64));
        assert_eq!(warnings.len(), 1);
        Ok(())
    }
}
