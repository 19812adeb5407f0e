//! The graph of stages: what each is based on, which of them the target needs. No I/O.
//!
//! Everything that decides the graph stands in the text: `FROM` sees only the ARGs before the first one, and `--from` takes no
//! variables.

use std::collections::BTreeMap;

use crate::dockerfile::instruction::Instruction;
use crate::dockerfile::{Dockerfile, Located, Mistake, word};

/// What the builder is asked for, as far as the graph depends on it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Options {
    /// Name or number of the stage to build; the last where not given.
    pub target: Option<String>,
    /// `--build-arg`.
    pub build_args: BTreeMap<String, String>,
    /// `os/arch[/variant]` of the image.
    pub platform: String,
    /// The same of this machine.
    pub build_platform: String,
}

/// What a stage begins with, or files come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Base {
    /// Nothing.
    Scratch,
    /// An earlier stage, by its index.
    Stage(usize),
    /// An image, by reference.
    Image(String),
}

/// One stage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stage {
    /// Its name, where it has one.
    pub name: Option<String>,
    /// What it begins with.
    pub base: Base,
    /// `os/arch[/variant]`, where `FROM` says one.
    pub platform: Option<String>,
    /// Its `FROM`.
    pub from: Located<Instruction>,
    /// The instructions after it.
    pub instructions: Vec<Located<Instruction>>,
}

impl Stage {
    /// What it is called in progress and messages.
    #[must_use]
    pub fn title(&self, index: usize) -> String {
        match &self.name {
            Some(name) => name.clone(),
            None => format!("stage-{index}"),
        }
    }
}

/// All stages, and which are built.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Graph {
    /// In the order of the file.
    pub stages: Vec<Stage>,
    /// The one whose result is wanted.
    pub target: usize,
    /// Whether each is needed for it.
    pub needed: Vec<bool>,
    /// The ARGs before the first `FROM`, and the platform's, with their values.
    pub global: BTreeMap<String, String>,
}

/// Makes the graph.
///
/// # Errors
/// A mistake in a `FROM`; a target that does not exist, which is told at the first line.
pub fn graph(file: &Dockerfile, options: &Options) -> Result<Graph, Mistake> {
    let mut global = platform_arguments(options);
    let mut stages: Vec<Stage> = Vec::new();
    for instruction in &file.instructions {
        match (&instruction.value, stages.last_mut()) {
            (Instruction::From(_), _) => {
                let stage = begin(instruction, &stages, &global, file.escape)?;
                stages.push(stage);
            }
            (Instruction::Arg(list), None) => {
                for (name, default) in list {
                    let value = match (options.build_args.get(name), default) {
                        (Some(given), _) => Some(given.clone()),
                        (None, Some(text)) => {
                            Some(expand(text, instruction, &global, file.escape)?)
                        }
                        (None, None) => None,
                    };
                    if let Some(value) = value {
                        global.insert(name.clone(), value);
                    }
                }
            }
            (_, Some(stage)) => stage.instructions.push(instruction.clone()),
            (_, None) => {}
        }
    }
    let target = find_target(&stages, options.target.as_deref(), file)?;
    let needed = needed(&stages, target)?;
    Ok(Graph {
        stages,
        target,
        needed,
        global,
    })
}

impl Graph {
    /// What `from` means to stage `index`: an earlier stage by name or number, else an image.
    #[must_use]
    pub fn source(&self, index: usize, from: &str) -> Base {
        source(&self.stages[..index], from)
    }
}

fn source(earlier: &[Stage], from: &str) -> Base {
    if from == "scratch" {
        return Base::Scratch;
    }
    let lower = from.to_ascii_lowercase();
    // A later stage of the same name hides an earlier one.
    let named = earlier
        .iter()
        .rposition(|stage| stage.name.as_deref() == Some(lower.as_str()));
    let numbered = from.parse().ok().filter(|n| *n < earlier.len());
    match named.or(numbered) {
        Some(index) => Base::Stage(index),
        None => Base::Image(from.to_owned()),
    }
}

fn begin(
    instruction: &Located<Instruction>,
    earlier: &[Stage],
    global: &BTreeMap<String, String>,
    escape: char,
) -> Result<Stage, Mistake> {
    let Instruction::From(from) = &instruction.value else {
        return Err(wrong(instruction, "expected FROM"));
    };
    let base = expand(&from.base, instruction, global, escape)?;
    if base.is_empty() {
        let message = format!(
            "FROM: the base name {:?} is empty after its variables are replaced: give the ARG before FROM a value",
            from.base
        );
        return Err(wrong(instruction, &message));
    }
    let platform = match &from.platform {
        Some(text) => Some(expand(text, instruction, global, escape)?),
        None => None,
    };
    let base = match base.as_str() {
        "scratch" => Base::Scratch,
        name if name.chars().all(|c| c.is_ascii_digit()) => Base::Image(base),
        name => source(earlier, name),
    };
    Ok(Stage {
        name: from.name.clone(),
        base,
        platform: platform.filter(|text| !text.is_empty()),
        from: instruction.clone(),
        instructions: Vec::new(),
    })
}

fn expand(
    text: &str,
    at: &Located<Instruction>,
    global: &BTreeMap<String, String>,
    escape: char,
) -> Result<String, Mistake> {
    word::expand(text, escape, &|name| global.get(name).cloned())
        .map_err(|bad| wrong(at, &format!("{}: {text}: {bad}", at.value.name())))
}

fn wrong(at: &Located<Instruction>, message: &str) -> Mistake {
    Mistake::new(at.place, at.value.name().len(), message)
}

fn find_target(
    stages: &[Stage],
    target: Option<&str>,
    file: &Dockerfile,
) -> Result<usize, Mistake> {
    let Some(target) = target.filter(|text| !text.is_empty()) else {
        return Ok(stages.len() - 1);
    };
    match source(stages, target) {
        Base::Stage(index) => Ok(index),
        _ => {
            let names: Vec<&str> = stages.iter().filter_map(|s| s.name.as_deref()).collect();
            let message = format!(
                "target stage {target:?} does not exist; there are {}",
                if names.is_empty() {
                    format!("stages 0 to {}, without names", stages.len() - 1)
                } else {
                    names.join(", ")
                }
            );
            Err(wrong(&file.instructions[0], &message))
        }
    }
}

/// The stages that `target` needs, itself included.
fn needed(stages: &[Stage], target: usize) -> Result<Vec<bool>, Mistake> {
    let mut needed = vec![false; stages.len()];
    needed[target] = true;
    // Stages only ever refer to earlier ones.
    for index in (0..=target).rev().collect::<Vec<_>>() {
        if !needed[index] {
            continue;
        }
        let stage = &stages[index];
        if let Base::Stage(base) = stage.base {
            needed[base] = true;
        }
        for instruction in &stage.instructions {
            for from in sources(instruction)? {
                if let Base::Stage(used) = source(&stages[..index], &from) {
                    needed[used] = true;
                }
            }
        }
    }
    Ok(needed)
}

/// Every `from` of an instruction.
fn sources(at: &Located<Instruction>) -> Result<Vec<String>, Mistake> {
    let found: Vec<String> = match &at.value {
        Instruction::Copy(copy) => copy.from.iter().cloned().collect(),
        Instruction::Run(run) => run
            .mounts
            .iter()
            .flat_map(|mount| mount.split(','))
            .filter_map(|field| field.trim().strip_prefix("from=").map(str::to_owned))
            .collect(),
        _ => Vec::new(),
    };
    match found.iter().find(|from| from.contains('$')) {
        Some(from) => Err(wrong(
            at,
            &format!(
                "{}: from={from}: variables are not replaced here; name a stage with FROM ${{…}} AS name and use that",
                at.value.name()
            ),
        )),
        None => Ok(found),
    }
}

/// `TARGETPLATFORM` and its parts, `BUILDPLATFORM` and its.
fn platform_arguments(options: &Options) -> BTreeMap<String, String> {
    let mut all = BTreeMap::new();
    for (prefix, platform) in [
        ("TARGET", &options.platform),
        ("BUILD", &options.build_platform),
    ] {
        let mut parts = platform.split('/');
        let mut part = || parts.next().unwrap_or_default().to_owned();
        all.insert(format!("{prefix}PLATFORM"), platform.clone());
        all.insert(format!("{prefix}OS"), part());
        all.insert(format!("{prefix}ARCH"), part());
        all.insert(format!("{prefix}VARIANT"), part());
    }
    all.insert("TARGETSTAGE".to_owned(), {
        let target = options.target.clone().unwrap_or_default();
        if target.is_empty() {
            "default".to_owned()
        } else {
            target
        }
    });
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dockerfile::parse;

    fn made(text: &str, options: &Options) -> Result<Graph, Mistake> {
        graph(&parse(text).unwrap(), options)
    }

    fn target(name: &str) -> Options {
        Options {
            target: Some(name.to_owned()),
            ..Options::default()
        }
    }

    #[test]
    fn only_what_the_target_needs_is_built() {
        let text = "FROM a AS base\nFROM base AS one\nFROM b AS two\nRUN --mount=type=bind,from=one,target=/x y\nFROM c AS three\nFROM scratch\nCOPY --from=two /x /\nCOPY --from=img:1 /y /";
        let all = made(text, &Options::default()).unwrap();
        assert_eq!(all.needed, [true, true, true, false, true]);
        assert_eq!(all.stages[1].base, Base::Stage(0));
        assert_eq!(all.stages[4].base, Base::Scratch);
        assert_eq!(all.source(4, "TWO"), Base::Stage(2));
        assert_eq!(all.source(4, "3"), Base::Stage(3));
        assert_eq!(all.source(4, "img:1"), Base::Image("img:1".to_owned()));
        let one = made(text, &target("One")).unwrap();
        assert_eq!((one.target, &one.needed[..2]), (1, &[true, true][..]));
        assert!(
            made(text, &target("none"))
                .unwrap_err()
                .message
                .contains("base, one")
        );
    }

    #[test]
    fn arguments_before_from_name_bases() {
        let mut options = Options {
            platform: "linux/arm64/v8".to_owned(),
            build_platform: "linux/amd64".to_owned(),
            ..Options::default()
        };
        let text = "ARG V=1\nARG I=img:${V}\nFROM --platform=$BUILDPLATFORM $I AS x\nFROM $NONE";
        let fails = made(text, &options).unwrap_err();
        assert_eq!(fails.place.line, 4);
        let text = text.replace("$NONE", "y:${TARGETARCH}");
        let plain = made(&text, &options).unwrap();
        assert_eq!(plain.stages[0].base, Base::Image("img:1".to_owned()));
        assert_eq!(plain.stages[0].platform.as_deref(), Some("linux/amd64"));
        assert_eq!(plain.stages[1].base, Base::Image("y:arm64".to_owned()));
        options.build_args.insert("V".to_owned(), "2".to_owned());
        let given = made(&text, &options).unwrap();
        assert_eq!(given.stages[0].base, Base::Image("img:2".to_owned()));
    }

    #[test]
    fn from_takes_no_variables() {
        let fails = made("FROM a\nCOPY --from=$X a b", &Options::default()).unwrap_err();
        assert!(fails.message.contains("not replaced"));
    }

    #[test]
    fn a_stage_cannot_use_itself_or_a_later_one() {
        let all = made(
            "FROM a\nCOPY --from=b /x /\nFROM c AS b",
            &Options::default(),
        )
        .unwrap();
        assert_eq!(all.source(0, "b"), Base::Image("b".to_owned()));
    }
}
