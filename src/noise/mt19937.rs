//! The Mersenne Twister: the 32-bit words behind torch's CPU generator.
//!
//! Source: Matsumoto and Nishimura, `mt19937ar.c` (2002).

/// Words of state.
const N: usize = 624;
/// Distance of the word that is mixed in.
const M: usize = 397;

/// MT19937 with the standard seeding and tempering.
#[derive(Debug, Clone)]
pub(super) struct Mt19937 {
    state: [u32; N],
    next: usize,
}

impl Mt19937 {
    /// `init_genrand`.
    pub(super) fn new(seed: u32) -> Self {
        let mut state = [seed; N];
        let mut word = seed;
        for (i, slot) in (0..).zip(&mut state).skip(1) {
            word = (word ^ (word >> 30))
                .wrapping_mul(1_812_433_253)
                .wrapping_add(i);
            *slot = word;
        }
        Self { state, next: N }
    }

    /// `genrand_int32`.
    pub(super) fn next_u32(&mut self) -> u32 {
        if self.next == N {
            self.regenerate();
        }
        let mut y = self.state[self.next];
        self.next += 1;
        y ^= y >> 11;
        y ^= (y << 7) & 0x9d2c_5680;
        y ^= (y << 15) & 0xefc6_0000;
        y ^ (y >> 18)
    }

    fn regenerate(&mut self) {
        for i in 0..N {
            let y = (self.state[i] & 0x8000_0000) | (self.state[(i + 1) % N] & 0x7fff_ffff);
            let twist = if y & 1 == 0 { 0 } else { 0x9908_b0df };
            self.state[i] = self.state[(i + M) % N] ^ (y >> 1) ^ twist;
        }
        self.next = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ten_thousandth_word_is_the_published_one() {
        // The check value that the C++ standard gives for `std::mt19937`, whose seed is 5489.
        let mut words = Mt19937::new(5489);
        for _ in 1..10_000 {
            words.next_u32();
        }
        assert_eq!(words.next_u32(), 4_123_659_995);
    }
}
