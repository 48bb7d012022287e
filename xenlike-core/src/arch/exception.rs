//! Exception vectors, named as in the manuals (APM vol. 2 §8.2).
#![cfg_attr(clippy, expect(missing_docs, reason = "the manuals' names"))]

pub const DB: u8 = 1;
pub const NMI: u8 = 2;
pub const UD: u8 = 6;
pub const NM: u8 = 7;
pub const DF: u8 = 8;
pub const GP: u8 = 13;
pub const PF: u8 = 14;
pub const MC: u8 = 18;

/// Exceptions that push an error code (APM vol. 2 §8.2): #DF #TS #NP #SS #GP #PF #AC #CP.
pub const fn has_error_code(vector: u8) -> bool {
    matches!(vector, 8 | 10..=14 | 17 | 21)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn error_codes_by_vector() {
        let with: std::vec::Vec<u8> = (0..32).filter(|&v| has_error_code(v)).collect();
        assert_eq!(with, [8, 10, 11, 12, 13, 14, 17, 21]);
    }
}
