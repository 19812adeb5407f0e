//! One stage: its base, then its instructions one after the other.

use std::sync::Arc;
use std::time::Instant;

use lite_core::image;
use lite_core::{Because as _, Kind, Platform, Reference, Result, blocking, pull};
use tokio::sync::{OnceCell, mpsc, watch};

use crate::SNAPSHOTTER;
use crate::build::{Run, Stage, Staged};
use crate::cache::Layer;
use crate::config::ImageConfig;
use crate::dockerfile::{Instruction, Located, Mistake};
use crate::export::rfc3339;
use crate::news::News;
use crate::stages::Base;
use crate::state::State;
use crate::step;

/// Builds stage `index`. `others` are those before it.
///
/// # Errors
/// A mistake in the Dockerfile, with its line; what a step says; Cancelled.
pub(crate) async fn build(
    run: Arc<Run>,
    index: usize,
    others: Vec<Option<Stage>>,
    stopped: watch::Receiver<bool>,
) -> Result<Staged> {
    let stage = &run.graph.stages[index];
    let steps = Titles::of(&run, index);
    let mut staged = base(
        &run,
        &stage.base,
        stage.platform.as_deref(),
        &others,
        steps.first(),
    )
    .await?;
    let (mut state, triggers) = State::begin(
        std::mem::take(&mut staged.image),
        &run.graph.global,
        &run.request.options.build_args,
        run.escape,
        &stage.from,
    )
    .map_err(|mistake| told(&run, &mistake))?;
    let created = rfc3339(run.request.time_s);
    let mut number = 1;
    for instruction in triggers.iter().chain(&stage.instructions) {
        if *stopped.borrow() {
            return Err(Kind::Cancelled.error("the build was cancelled"));
        }
        let taken = state
            .take(instruction)
            .map_err(|mistake| told(&run, &mistake))?;
        let mut is_empty = true;
        if let Some(op) = &taken.op {
            number += 1;
            let step = step::Step {
                run: &run,
                stage: index,
                others: &others,
                stopped: stopped.clone(),
                op,
                parent: staged.chain(),
                title: steps.title(number, &instruction.text),
                fetched: OnceCell::new(),
            };
            let outcome = step
                .done()
                .await
                .map_err(|err| at_line(&run, instruction, err))?;
            is_empty = outcome.layer.is_none();
            staged.layers.extend(outcome.layer);
        }
        state.remember(&created, taken.history, is_empty);
    }
    staged.image = state.image;
    Ok(staged)
}

/// What steps of a stage are called.
struct Titles {
    stage: String,
    total: usize,
    base: String,
}

impl Titles {
    fn of(run: &Run, index: usize) -> Self {
        let stage = &run.graph.stages[index];
        let counts = |instruction: &&Located<Instruction>| {
            matches!(
                instruction.value,
                Instruction::Run(_) | Instruction::Copy(_) | Instruction::Workdir(_)
            )
        };
        let several = run.graph.needed.iter().filter(|needed| **needed).count() > 1;
        Self {
            stage: if several {
                format!("{} ", stage.title(index))
            } else {
                String::new()
            },
            total: 1 + stage.instructions.iter().filter(counts).count(),
            base: stage.from.text.clone(),
        }
    }

    fn title(&self, number: usize, text: &str) -> String {
        // A long line of continued commands is not all shown.
        let line: String = text.chars().take(200).collect();
        format!("[{}{number}/{}] {line}", self.stage, self.total.max(number))
    }

    fn first(&self) -> String {
        self.title(1, &self.base)
    }
}

/// A mistake that only shows when the instruction is taken.
fn told(run: &Run, mistake: &Mistake) -> lite_core::Error {
    Kind::InvalidArgument.error(mistake.render(&run.request.file_name, &run.request.text))
}

/// A step's failure, with the line of the Dockerfile that it comes from.
fn at_line(run: &Run, at: &Located<Instruction>, err: lite_core::Error) -> lite_core::Error {
    if err.kind() == Kind::Cancelled {
        return err;
    }
    let width = at.text.lines().next().unwrap_or_default().chars().count();
    let mistake = Mistake::new(at.place, width, lite_core::chain(&err));
    err.kind()
        .error(mistake.render(&run.request.file_name, &run.request.text))
}

/// What a stage begins with, or files are copied from.
///
/// # Errors
/// NotFound for an image; those of the registry and the stores; the failure of another stage.
pub(crate) async fn base(
    run: &Run,
    base: &Base,
    platform: Option<&str>,
    others: &[Option<Stage>],
    title: String,
) -> Result<Staged> {
    match base {
        Base::Scratch => Ok(scratch(&run.request.options.platform)),
        Base::Stage(index) => {
            let Some(Some(stage)) = others.get(*index) else {
                return Err(Kind::Internal.error(format!("stage {index} is not built")));
            };
            match stage.clone().await {
                Ok(staged) => Ok(Staged::clone(&staged)),
                // Its own words are told once, by itself.
                Err(_) => Err(Kind::Cancelled.error("another stage failed")),
            }
        }
        Base::Image(name) => {
            let step = run.next_step();
            run.teller.tell(News::Begun { step, name: title }).await;
            let began = Instant::now();
            let platform = platform.unwrap_or(&run.request.options.platform);
            let found = image(run, name, platform).await;
            run.teller
                .tell(match &found {
                    Ok(_) => News::Done {
                        step,
                        took: began.elapsed(),
                    },
                    Err(_) => News::Failed { step },
                })
                .await;
            found.op(|| format!("base image {name}"))
        }
    }
}

fn scratch(platform: &str) -> Staged {
    let mut parts = platform.split('/').map(str::to_owned);
    let os = parts.next().filter(|os| !os.is_empty());
    let image = ImageConfig {
        os: os.unwrap_or_else(|| "linux".to_owned()),
        architecture: parts.next().unwrap_or_default(),
        variant: parts.next(),
        ..ImageConfig::default()
    };
    Staged {
        image,
        layers: Vec::new(),
    }
}

/// An image that is here, or is pulled.
async fn image(run: &Run, name: &str, platform: &str) -> Result<Staged> {
    let hub = &run.builder.shared;
    let reference = Reference::parse(name).map_err(|err| {
        Kind::InvalidArgument
            .error(format!("reference {name:?}"))
            .because(err)
    })?;
    let platform = Platform::parse(platform).ok_or_else(|| {
        Kind::InvalidArgument.error(format!("platform {platform:?}: expected os/arch[/variant]"))
    })?;
    let here = {
        let (core, ns, name) = (hub.core.clone(), hub.ns.clone(), reference.to_string());
        blocking(move || match core.images.get(&ns, &name) {
            Err(err) if err.kind() == Kind::NotFound => Ok(None),
            found => found.map(Some),
        })
        .await?
    };
    let stored = match here.filter(|_| !run.request.pull) {
        Some(image) => image,
        None => {
            // Nobody listens: a pull goes on without.
            let (progress, _) = mpsc::channel(1);
            pull::pull(&hub.core, &hub.ns, &reference, &platform, progress)
                .await?
                .image
        }
    };
    let (core, ns, lease) = (hub.core.clone(), hub.ns.clone(), run.lease.clone());
    blocking(move || {
        let resolved = image::resolve(&core, &ns, &stored.target, &platform)?;
        // Whatever happens to the name meanwhile, what hangs on it stays.
        core.leases.add_resource(
            &ns,
            &lease,
            &lite_core::Resource {
                kind: "content".to_owned(),
                id: resolved.manifest.digest.to_string(),
            },
        )?;
        if resolved.chain_id.is_some() {
            lite_core::unpack(&core, &ns, SNAPSHOTTER, &resolved, &mut |_| {})?;
        }
        let bytes = core
            .content
            .read(&ns, &resolved.config.digest, LARGEST_CONFIG)?;
        let image: ImageConfig = serde_json::from_slice(&bytes).map_err(|err| {
            Kind::InvalidArgument
                .error(format!("config {}", resolved.config.digest))
                .because(err)
        })?;
        let chains = image::chain_ids(&resolved.diff_ids);
        let layers = resolved
            .layers
            .iter()
            .zip(&resolved.diff_ids)
            .zip(&chains)
            .map(|((blob, diff_id), chain_id)| Layer {
                diff_id: diff_id.to_string(),
                digest: blob.digest.to_string(),
                size: blob.size,
                media_type: blob.media_type.clone(),
                chain_id: chain_id.to_string(),
            })
            .collect();
        Ok(Staged { image, layers })
    })
    .await
}

/// The largest config of a base, as in the core.
const LARGEST_CONFIG: u64 = 16 << 20;
