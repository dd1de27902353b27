//! Numbers for the names of users and items, in the order in which the names first came. A map of texts would take ten times the bytes of
//! short names.

use std::hash::{BuildHasher as _, RandomState};

use crate::io::lean;

/// No number.
const FREE: u32 = u32::MAX;

/// The names so far.
#[derive(Debug, Default)]
pub(super) struct Names {
    /// All names, one after the other.
    text: String,
    /// The end of each name in the text.
    ends: Vec<u32>,
    /// The numbers of the names; each lies at the first free place from its hash on.
    places: Vec<u32>,
    hashes: RandomState,
}

impl Names {
    pub(super) const fn len(&self) -> usize {
        self.ends.len()
    }

    /// The number of a name, if it came before.
    pub(super) fn find(&self, name: &str) -> Option<u32> {
        if self.places.is_empty() {
            return None;
        }
        Some(self.places[self.place(name)]).filter(|number| *number != FREE)
    }

    /// Gives a new name its number.
    pub(super) fn add(&mut self, name: &str) -> u32 {
        if (self.len() + 1) * 8 > self.places.len() * 7 {
            self.grow();
        }
        let (place, number) = (self.place(name), self.len() as u32);
        self.places[place] = number;
        if self.text.capacity() - self.text.len() < name.len() {
            self.text.reserve_exact(name.len().max(self.text.len() / 4));
        }
        self.text += name;
        lean::push(&mut self.ends, self.text.len() as u32);
        number
    }

    /// The place of a name, or the free place where it belongs.
    fn place(&self, name: &str) -> usize {
        let mut place = (self.hashes.hash_one(name) % self.places.len() as u64) as usize;
        while self.places[place] != FREE && self.name(self.places[place]) != name {
            place = (place + 1) % self.places.len();
        }
        place
    }

    fn name(&self, number: u32) -> &str {
        let number = number as usize;
        let begin = number.checked_sub(1).map_or(0, |before| self.ends[before]);
        &self.text[begin as usize..self.ends[number] as usize]
    }

    fn grow(&mut self) {
        self.places = vec![FREE; self.places.len() + self.places.len() / 4 + 8];
        for number in 0..self.len() as u32 {
            let place = self.place(self.name(number));
            self.places[place] = number;
        }
    }
}
