//! The few pickle operations of which TorchScript's archives consist (protocol 2).

/// A pickle that grows.
pub struct Pickle {
    bytes: Vec<u8>,
}

impl Pickle {
    pub fn new() -> Self {
        Self {
            bytes: vec![0x80, 2],
        }
    }

    /// A class or function by its name.
    pub fn global(&mut self, module: &str, name: &str) {
        self.bytes.push(b'c');
        self.bytes.extend(format!("{module}\n{name}\n").as_bytes());
    }

    pub fn text(&mut self, text: &str) {
        self.bytes.push(b'X');
        self.bytes.extend((text.len() as u32).to_le_bytes());
        self.bytes.extend(text.as_bytes());
    }

    pub fn integer(&mut self, number: i64) {
        match i32::try_from(number) {
            Ok(number) => {
                self.bytes.push(b'J');
                self.bytes.extend(number.to_le_bytes());
            }
            Err(_) => {
                self.bytes.extend([0x8a, 8]);
                self.bytes.extend(number.to_le_bytes());
            }
        }
    }

    pub fn flag(&mut self, value: bool) {
        self.bytes.push(if value { 0x88 } else { 0x89 });
    }

    pub fn empty_tuple(&mut self) {
        self.bytes.push(b')');
    }

    pub fn empty_dictionary(&mut self) {
        self.bytes.push(b'}');
    }

    /// A tuple of what `items` puts here.
    pub fn tuple(&mut self, items: impl FnOnce(&mut Self)) {
        self.bytes.push(b'(');
        items(self);
        self.bytes.push(b't');
    }

    /// Puts the pairs that `items` puts here into the dictionary before them.
    pub fn entries(&mut self, items: impl FnOnce(&mut Self)) {
        self.bytes.push(b'(');
        items(self);
        self.bytes.push(b'u');
    }

    /// Calls the function before the tuple with it.
    pub fn call(&mut self) {
        self.bytes.push(b'R');
    }

    /// Makes an object of the class before the tuple.
    pub fn make(&mut self) {
        self.bytes.push(0x81);
    }

    /// Gives the object before the dictionary what is in it.
    pub fn build(&mut self) {
        self.bytes.push(b'b');
    }

    /// Replaces a tuple by the object that it addresses outside the pickle.
    pub fn address(&mut self) {
        self.bytes.push(b'Q');
    }

    pub fn finish(mut self) -> Vec<u8> {
        self.bytes.push(b'.');
        self.bytes
    }
}
