//! Telling what lasts from what passes.

/// Says once that something has been so in several readings in a row. It says it again only after
/// as many readings in which it was not so.
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

    /// Takes in a reading; true when it is time to say that it is so.
    pub fn observe(&mut self, is_so: bool) -> bool {
        if is_so == self.said {
            self.unlike = 0;
            return false;
        }
        self.unlike += 1;
        if self.unlike < self.patience {
            return false;
        }
        self.unlike = 0;
        self.said = is_so;
        is_so
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lasts_is_said_once_and_again_after_it_has_ended() {
        let mut persistence = Persistence::new(3);
        let readings = "..xx.xxxx.xxx..x...xx.xxx";
        let said: String = readings
            .chars()
            .map(|reading| match persistence.observe(reading == 'x') {
                true => '!',
                false => reading,
            })
            .collect();
        assert_eq!(said, "..xx.xx!x.xxx..x...xx.xx!");
    }
}
