//! The joint sequence of text and image rows that attention reads.

use std::ops::Range;

use candle_core::{Result, Tensor};

use super::cat;

/// Where each stream's rows lie in the joint sequence of all branches.
///
/// One branch: `txt, img`. Two: `txt₀, img₀, img₁, txt₁`. Attention does not care for the order
/// of keys, so the second branch may hold its text last; the image rows of all branches are then
/// one block, which products read in place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JointLayout {
    /// Text tokens of each branch: one or two.
    pub txt: Vec<usize>,
    /// Image tokens of one branch.
    pub s_img: usize,
}

impl JointLayout {
    /// A layout for `txt.len()` branches.
    ///
    /// # Panics
    /// When there are not one or two branches.
    #[must_use]
    pub fn new(txt: Vec<usize>, s_img: usize) -> Self {
        assert!(matches!(txt.len(), 1 | 2), "one or two guidance branches");
        Self { txt, s_img }
    }

    /// Number of guidance branches.
    #[must_use]
    pub fn branches(&self) -> usize {
        self.txt.len()
    }

    /// Rows of the joint sequence.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.txt.iter().sum::<usize>() + self.s_img * self.branches()
    }

    /// Rows that attend to each other: one range for each branch.
    #[must_use]
    pub fn segments(&self) -> Vec<Range<usize>> {
        consecutive(self.txt.iter().map(|txt| txt + self.s_img))
    }

    /// Rows of the image tokens of all branches.
    #[must_use]
    pub fn image_rows(&self) -> Range<usize> {
        self.txt[0]..self.txt[0] + self.s_img * self.branches()
    }

    /// Cuts joint rows into the text rows of all branches, one after the other, and the image rows.
    ///
    /// # Shapes
    /// `joint`: `[rows, width]`; results: `[Σ txt, width]`, `[branches · s_img, width]`.
    ///
    /// # Errors
    /// When `joint` has another number of rows.
    pub fn split(&self, joint: &Tensor) -> Result<(Tensor, Tensor)> {
        let image = self.image_rows();
        let before = joint.narrow(0, 0, image.start)?;
        let txt = match self.branches() {
            1 => before,
            _ => cat(&[&before, &joint.narrow(0, image.end, self.txt[1])?])?,
        };
        Ok((txt, joint.narrow(0, image.start, image.len())?))
    }

    /// Joins per-stream rows in the layout's order; the inverse of [`JointLayout::split`].
    ///
    /// # Errors
    /// When a stream has another number of rows.
    pub fn join(&self, txt: &Tensor, img: &Tensor) -> Result<Tensor> {
        match self.branches() {
            1 => cat(&[txt, img]),
            _ => cat(&[
                &txt.narrow(0, 0, self.txt[0])?,
                img,
                &txt.narrow(0, self.txt[0], self.txt[1])?,
            ]),
        }
    }
}

/// Ranges of these lengths, one after the other.
pub(crate) fn consecutive(lengths: impl Iterator<Item = usize>) -> Vec<Range<usize>> {
    let mut end = 0;
    let range = |length| {
        let start = end;
        end += length;
        start..end
    };
    lengths.map(range).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn image_rows_of_all_branches_are_one_block() {
        let layout = JointLayout::new(vec![5, 2], 7);
        assert_eq!(layout.rows(), 21);
        assert_eq!(layout.image_rows(), 5..19);
        assert_eq!(layout.segments(), vec![0..12, 12..21]);
    }
}
