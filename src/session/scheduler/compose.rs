//! What goes into a step.

use super::{Part, Scheduler, Sequence};
use wick_core::Token;

impl Scheduler<'_> {
    /// Composes the batch: the next tokens of those that draw, and a chunk of prompts beside them, or drafts. Where
    /// not all find room, those come first that have waited longest.
    pub(super) fn compose(&mut self) {
        self.batch.clear();
        self.parts.clear();
        self.steps += 1;
        let (room, mut logits) = (self.engine.options().batch, self.engine.options().logits);
        let mut chunk = self.chunk;
        let mut spare = self.spare(room.min(logits));
        if let Some((sequence, most)) = self.overdue_prompt(room) {
            chunk -= self.add(sequence, most.min(chunk), &mut logits);
        }
        while let Some(sequence) =
            self.next(false).filter(|_| self.batch.len() < room && logits > 0)
        {
            self.add(sequence, room - self.batch.len(), &mut logits);
            let drafted = self.add_draft(sequence, spare);
            (spare, logits) = (spare - drafted, logits - drafted);
        }
        while let Some(sequence) = self.next(true) {
            let tokens = self.add(sequence, chunk.min(room - self.batch.len()), &mut logits);
            if tokens == 0 {
                break;
            }
            chunk -= tokens;
        }
    }

    /// Of so many tokens with logits, how many are left for drafts.
    fn spare(&self, room: usize) -> usize {
        match self.next(true) {
            Some(_) => 0,
            None => room.saturating_sub(self.drawing()),
        }
    }

    /// Generations that draw.
    fn drawing(&self) -> usize {
        let generations = self.sequences.iter().filter_map(|place| place.generation.as_ref());
        generations.filter(|generation| generation.is_drawing()).count()
    }

    /// The prompt whose turn it is, if it has waited longer than all that draw, and how many of its
    /// tokens go before theirs: what they leave, or all of a step in which not all of them find room.
    fn overdue_prompt(&self, room: usize) -> Option<(usize, usize)> {
        let sequence = self.next(true)?;
        let longest = self.sequences[self.next(false)?].stepped;
        let drawing = self.drawing();
        let most = if drawing < room { room - drawing } else { room };
        (self.sequences[sequence].stepped < longest).then_some((sequence, most))
    }

    /// Adds up to `most` tokens of a sequence to the batch, without its last one if no more `logits`
    /// can be had; returns how many.
    fn add(&mut self, sequence: usize, most: usize, logits: &mut usize) -> usize {
        let place = &mut self.sequences[sequence];
        let Some(generation) = &place.generation else { return 0 };
        let most = if *logits == 0 { most.min(generation.left() - 1) } else { most };
        if most == 0 {
            return 0;
        }
        place.stepped = self.steps;
        let start = self.batch.len();
        let tokens = generation.feed(most, &mut self.batch);
        *logits -= usize::from(self.batch.last().is_some_and(Token::wants_logits));
        self.parts.push(Part { sequence, start, tokens, drafted: 0 });
        tokens
    }

    /// Adds what may follow the token of a sequence that was added last; returns how many tokens that are.
    fn add_draft(&mut self, sequence: usize, most: usize) -> usize {
        let generation = self.sequences[sequence].generation.as_mut();
        let part = self.parts.last_mut().filter(|part| part.sequence == sequence);
        let (Some(generation), Some(part)) = (generation, part) else { return 0 };
        part.drafted = generation.feed_draft(most, &mut self.batch);
        part.drafted
    }

    /// The sequence whose generation has waited longest for a part in a step, of those that read their
    /// prompts, or of those that draw. Prompts are read one after another.
    fn next(&self, reading: bool) -> Option<usize> {
        let is_fitting = |place: &Sequence| {
            let generation = place.generation.as_ref();
            place.stepped < self.steps
                && generation.is_some_and(|g| g.ended().is_none() && g.is_reading() == reading)
        };
        let places = self.sequences.iter().enumerate().filter(|(_, place)| is_fitting(place));
        let order = |place: &Sequence| if reading { place.number } else { place.stepped };
        places.min_by_key(|(_, place)| (order(place), place.number)).map(|(i, _)| i)
    }
}
