//! Drafts: what may be drawn next, by what followed the same ids before.

use alloc::vec::Vec;

/// Ids that must have stood before as they stand at the end of a text; of longer ones no more than [`LONGEST`] are compared.
const LEAST: usize = 3;
const LONGEST: usize = 16;
/// Ids of a first draft.
const FIRST: usize = 2;
/// Steps that drafts may cost before any has saved one, and what each token that is drawn adds to them: so a text in which
/// nothing comes again loses hardly any.
const LOAN: f32 = 1.0;
const ALLOWANCE: f32 = 0.015;

/// Drafts of one text (prompt lookup decoding: Saxena, 2023). The ids of a draft are stepped beside the token that was drawn
/// last; where the next ones that are drawn are the same, their logits are there already.
///
/// Each draft must be paid from the steps that earlier ones have saved.
#[derive(Debug)]
pub(crate) struct Draft {
    /// The draft at hand, and how many of its ids were drawn.
    ids: Vec<u32>,
    drawn: usize,
    /// Most ids of a draft, and how many the next one may have.
    most: usize,
    length: usize,
    /// What stepping one more token costs, of a step.
    cost: f32,
    /// Steps that may be lost.
    credit: f32,
}

impl Draft {
    /// Drafts of up to `most` ids, each of which costs so much of a step.
    pub(crate) fn new(most: usize, cost: f32) -> Draft {
        let ids = Vec::with_capacity(most);
        Draft { ids, drawn: 0, most, length: FIRST.min(most), cost, credit: LOAN }
    }

    /// Drafts what follows a text, by no more than `room` ids.
    pub(crate) fn write(&mut self, text: &[u32], room: usize) -> &[u32] {
        self.credit = (self.credit + ALLOWANCE).min(LOAN.max(self.most as f32 * self.cost));
        let affordable = (self.credit / self.cost) as usize;
        let ids = self.length.min(affordable).min(room);
        if let Some(from) = (ids > 0).then(|| find(text)).flatten() {
            for i in from..from + ids {
                // A text that repeats its end goes on with what the draft has said so far.
                let id = text.get(i).unwrap_or_else(|| &self.ids[i - text.len()]);
                self.ids.push(*id);
            }
        }
        &self.ids
    }

    /// Whether the draft at hand foresaw the id that was drawn next.
    pub(crate) fn foresaw(&mut self, id: u32) -> bool {
        let foresaw = self.ids.get(self.drawn) == Some(&id);
        self.drawn += usize::from(foresaw);
        foresaw
    }

    /// Ends the draft at hand, and learns from it; returns how many of its ids were in vain.
    pub(crate) fn end(&mut self) -> usize {
        let (ids, drawn) = (self.ids.len(), self.drawn);
        if ids > 0 {
            self.credit += drawn as f32 - self.cost * ids as f32;
            self.length =
                if drawn == ids { (2 * self.length).min(self.most) } else { drawn.max(1) };
        }
        self.ids.clear();
        self.drawn = 0;
        ids - drawn
    }

    /// Drafts nothing any more.
    pub(crate) fn stop(&mut self) {
        self.end();
        self.length = 0;
    }
}

/// Where in a text stands what followed the most ids that are as those at its end, or what did so last.
fn find(text: &[u32]) -> Option<usize> {
    let (mut most, mut found) = (LEAST - 1, None);
    for end in (LEAST..text.len()).rev() {
        let pairs = text[..end].iter().rev().zip(text.iter().rev()).take(LONGEST);
        let alike = pairs.take_while(|(a, b)| a == b).count();
        if alike > most {
            (most, found) = (alike, Some(end));
            if most == LONGEST {
                break;
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(text: &[u32], length: usize) -> Vec<u32> {
        let mut draft = Draft::new(8, 0.1);
        draft.length = length;
        draft.write(text, 8).to_vec()
    }

    #[test]
    fn a_draft_is_what_followed_the_longest_end_that_came_before() {
        assert_eq!(written(&[1, 2, 3, 4, 5, 9, 1, 2, 3], 2), [4, 5]);
        // The last of those that are alike.
        assert_eq!(written(&[1, 2, 3, 4, 1, 2, 3, 5, 1, 2, 3], 1), [5]);
        // A longer one before it.
        assert_eq!(written(&[0, 1, 2, 3, 4, 1, 2, 3, 5, 0, 1, 2, 3], 1), [4]);
        // Two ids are too few, and so is a text of none.
        assert_eq!(written(&[1, 2, 4, 5, 9, 1, 2], 2), []);
        assert_eq!(written(&[], 2), []);
        // What repeats itself goes on so.
        assert_eq!(written(&[1, 2, 1, 2, 1, 2], 5), [1, 2, 1, 2, 1]);
        assert_eq!(written(&[7; 40], 3), [7, 7, 7]);
    }

    #[test]
    fn drafts_grow_with_success() {
        let mut draft = Draft::new(8, 0.5);
        for expected in [2, 4, 8, 8] {
            assert_eq!(draft.write(&[7; 9], 20).len(), expected);
            assert!((0..expected).all(|_| draft.foresaw(7)));
            assert!(!draft.foresaw(7), "no more than it has");
            assert_eq!(draft.end(), 0);
        }
        assert_eq!(draft.write(&[7; 9], 3).len(), 3, "no more than there is room for");
        assert!(draft.foresaw(7) && !draft.foresaw(8));
        assert_eq!(draft.end(), 2);
        assert_eq!(draft.write(&[7; 9], 20).len(), 1);
        draft.stop();
        assert_eq!(draft.write(&[7; 9], 20).len(), 0);
    }

    #[test]
    fn drafts_in_vain_cost_less_than_three_of_a_hundred() {
        let cost = 0.5;
        let mut draft = Draft::new(8, cost);
        for drawn in 1..2000 {
            draft.write(&[7; 9], 20);
            draft.end();
            let lost = LOAN + ALLOWANCE * drawn as f32 - draft.credit;
            assert!(lost <= 1.0 + 0.02 * drawn as f32, "{lost} of {drawn}");
        }
    }
}
