//! Telling what lasts from what passes.

/// What has turned out to last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// It is so.
    Begins,
    /// It is so no more.
    Ends,
}

/// Says once that something has been so in several readings in a row, and once that it was not so in as
/// many readings after that.
#[derive(Clone, Debug)]
pub struct Persistence {
    patience: u32,
    /// Readings in a row that were unlike what has been said.
    unlike: u32,
    said: bool,
}

impl Persistence {
    /// `patience`: readings in a row, at least 1.
    pub fn new(patience: u32) -> Self {
        Self {
            patience,
            unlike: 0,
            said: false,
        }
    }

    /// Takes in a reading; what it is time to say.
    pub fn observe(&mut self, is_so: bool) -> Option<Turn> {
        if is_so == self.said {
            self.unlike = 0;
            return None;
        }
        self.unlike += 1;
        if self.unlike < self.patience {
            return None;
        }
        self.unlike = 0;
        self.said = is_so;
        Some(match is_so {
            true => Turn::Begins,
            false => Turn::Ends,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lasts_is_said_once_and_so_is_its_end() {
        let mut persistence = Persistence::new(3);
        let readings = "..xx.xxxx.xxx..x...xx.xxx";
        let said: String = readings
            .chars()
            .map(|reading| match persistence.observe(reading == 'x') {
                Some(Turn::Begins) => '!',
                Some(Turn::Ends) => '-',
                None => reading,
            })
            .collect();
        assert_eq!(said, "..xx.xx!x.xxx..x..-xx.xx!");
    }
}
