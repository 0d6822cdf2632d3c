//! What the boot arguments ask for.

use core::fmt;
use core::str::FromStr;
use wick_core::{KvFormat, Sampling};

/// How many experts have a slot in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Slots {
    /// As many as memory has room for.
    Fitting,
    /// All.
    All,
    /// Half of all.
    Half,
    /// One.
    Least,
    /// That many.
    Count(usize),
    /// No slots: the whole file is read into memory before the first token.
    Ram,
}

/// Settings, with what they are when the boot arguments do not name them.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Settings {
    /// `slots=all|half|least|NUMBER|ram`: experts in memory, as many as fit.
    pub slots: Slots,
    /// `cores=N`: cores that compute, all.
    pub cores: Option<usize>,
    /// `context=N`: positions for prompt and answer together, 4096 or the model's own if that is less.
    pub context: Option<usize>,
    /// `kv=f16|q8_0`: how keys and values are kept, f16.
    pub kv: KvFormat,
    /// `n=N`: most tokens of an answer, 512.
    pub most: usize,
    /// `temperature=T top-k=K top-p=P min-p=P repeat-penalty=R presence-penalty=A frequency-penalty=A
    /// seed=S`: as for `wick run`; without a seed the timer gives one.
    pub sampling: Sampling,
    /// Whether a seed was given.
    pub seeded: bool,
    /// `timeout=MS`: milliseconds after which a read that has not ended has failed, 5000.
    pub timeout: u64,
    /// `raw`: prompts are continued as they stand, without chat template.
    pub raw: bool,
    /// `checksum`: the CRC-32 of all logits of an answer is printed.
    pub checksum: bool,
    /// `debug`: more is logged.
    pub debug: bool,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            slots: Slots::Fitting,
            cores: None,
            context: None,
            kv: KvFormat::F16,
            most: 512,
            sampling: Sampling::default(),
            seeded: false,
            timeout: 5000,
            raw: false,
            checksum: false,
            debug: false,
        }
    }
}

impl Settings {
    /// Reads boot arguments: words that are separated by spaces.
    ///
    /// # Errors
    /// A word is no setting, or its value is out of range.
    pub fn parse(arguments: &str) -> Result<Settings, SettingsError<'_>> {
        let mut settings = Settings::default();
        arguments.split_whitespace().try_for_each(|word| settings.set(word))?;
        Ok(settings)
    }

    fn set<'a>(&mut self, word: &'a str) -> Result<(), SettingsError<'a>> {
        let (name, value) = word.split_once('=').unwrap_or((word, ""));
        let sampling = &mut self.sampling;
        match name {
            "slots" => self.slots = slots(word, value)?,
            "cores" => self.cores = Some(number(word, value, |n| n > 0, "1 or more")?),
            "context" => self.context = Some(number(word, value, |n| n > 0, "1 or more")?),
            "kv" => {
                self.kv = match value {
                    "f16" => KvFormat::F16,
                    "q8_0" => KvFormat::Q8_0,
                    _ => return Err(SettingsError { word, expected: "f16 or q8_0" }),
                };
            }
            "n" => self.most = number(word, value, |_| true, "a number")?,
            "temperature" => {
                let right = |t: f32| t >= 0.0 && t.is_finite();
                sampling.temperature = number(word, value, right, "0 or more")?;
            }
            "top-k" => sampling.top_k = number(word, value, |_| true, "a number")?,
            "top-p" => sampling.top_p = number(word, value, is_probability, "0 to 1")?,
            "min-p" => sampling.min_p = number(word, value, is_probability, "0 to 1")?,
            "repeat-penalty" => {
                let right = |r: f32| r > 0.0 && r.is_finite();
                sampling.repeat_penalty = number(word, value, right, "more than 0")?;
            }
            "presence-penalty" => sampling.presence_penalty = penalty(word, value)?,
            "frequency-penalty" => sampling.frequency_penalty = penalty(word, value)?,
            "seed" => {
                sampling.seed = number(word, value, |_| true, "a number")?;
                self.seeded = true;
            }
            "timeout" => self.timeout = number(word, value, |n| n > 0, "1 or more")?,
            "raw" if word == name => self.raw = true,
            "checksum" if word == name => self.checksum = true,
            "debug" if word == name => self.debug = true,
            _ => return Err(SettingsError { word, expected: NAMES }),
        }
        Ok(())
    }
}

const NAMES: &str = "slots=, cores=, context=, kv=, n=, temperature=, top-k=, top-p=, min-p=, \
                     repeat-penalty=, presence-penalty=, frequency-penalty=, seed=, timeout=, raw, checksum or debug";

fn penalty<'a>(word: &'a str, value: &str) -> Result<f32, SettingsError<'a>> {
    number(word, value, |p| (-2.0..=2.0).contains(&p), "-2 to 2")
}

fn slots<'a>(word: &'a str, value: &str) -> Result<Slots, SettingsError<'a>> {
    Ok(match value {
        "all" => Slots::All,
        "half" => Slots::Half,
        "least" => Slots::Least,
        "ram" => Slots::Ram,
        _ => Slots::Count(number(word, value, |n| n > 0, "all, half, least, ram or a number")?),
    })
}

fn is_probability(p: f32) -> bool {
    (0.0..=1.0).contains(&p)
}

fn number<'a, N: FromStr + Copy>(
    word: &'a str,
    value: &str,
    right: impl Fn(N) -> bool,
    expected: &'static str,
) -> Result<N, SettingsError<'a>> {
    let value = value.parse().ok().filter(|n| right(*n));
    value.ok_or(SettingsError { word, expected })
}

/// A word of the boot arguments that is no setting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SettingsError<'a> {
    word: &'a str,
    expected: &'static str,
}

impl fmt::Display for SettingsError<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "boot argument {}: {} expected", self.word, self.expected)
    }
}

impl core::error::Error for SettingsError<'_> {}

#[cfg(test)]
mod tests {
    use super::*;
    use std::string::ToString;

    #[test]
    fn words_are_settings() {
        let found = Settings::parse("slots=12  n=7 temperature=0 seed=3 raw timeout=20 cores=2");
        let sampling = Sampling { temperature: 0.0, seed: 3, ..Sampling::default() };
        let expected = Settings {
            slots: Slots::Count(12),
            most: 7,
            sampling,
            seeded: true,
            raw: true,
            timeout: 20,
            cores: Some(2),
            ..Settings::default()
        };
        assert_eq!(found, Ok(expected));
        assert_eq!(Settings::parse(""), Ok(Settings::default()));
        let slots = |text| Settings::parse(text).unwrap().slots;
        assert_eq!(slots("slots=all slots=half"), Slots::Half);
        assert_eq!((slots("slots=least"), slots("slots=ram")), (Slots::Least, Slots::Ram));
    }

    #[test]
    fn what_is_none_is_refused() {
        for (word, text) in [
            ("slots=0", "all, half, least, ram or a number"),
            ("slots", "all, half, least, ram or a number"),
            ("top-p=1.5", "0 to 1"),
            ("presence-penalty=-2.5", "-2 to 2"),
            ("frequency-penalty=3", "-2 to 2"),
            ("kv=q4_0", "f16 or q8_0"),
            ("temperature=-1", "0 or more"),
            ("seed=x", "a number"),
            ("raw=1", "slots="),
            ("color=red", "slots="),
        ] {
            let error = Settings::parse(word).unwrap_err().to_string();
            assert!(error.starts_with("boot argument ") && error.contains(text), "{error}");
        }
    }
}
