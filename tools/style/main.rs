//! `munit-style`: the named styles of a model.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Result, ensure};
use clap::{ArgGroup, Args, Parser, Subcommand, ValueEnum};
use munit::{Direction, Domain};
use munit_tools::model_name::find_model;
use munit_tools::named_styles::{Kept, Listed, NamedStyles, Origin};
use munit_tools::program::{self, print_line, sentence};
use munit_tools::style_sheet::{SheetRequest, StyleSheet, style_sheet};
use munit_tools::translate::{chosen_direction, refuse_to_replace, save_picture};
use serde_json::json;

/// Names styles of a model: lists, adds, shows, renames and deletes them.
///
/// New styles are kept beside the model, in NAME.styles.json, where munitfilter and
/// munit-translate find them, too. The model file stays as it is; with --into-model a copy of it
/// with the change is written.
#[derive(Parser)]
#[command(name = "munit-style", version, max_term_width = 100, after_help = EXAMPLES)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

const EXAMPLES: &str = "\
Examples:
  munit-style list photo2illustration
  munit-style add photo2illustration dusk print.png
  munit-style add photo2illustration my-prints folder/of/prints
  munit-style show photo2illustration sheet.png cat.jpg street.jpg --draws 8
  munit-style rename photo2illustration dusk evening
  munit-style delete photo2illustration evening
  munit-style add photo2illustration night --seed 7 --into-model mine.safetensors";

#[derive(Subcommand)]
enum Command {
    /// List the styles that can be asked for by name
    List {
        #[command(flatten)]
        model: ModelArgument,
        /// Print JSON instead of a table
        #[arg(long)]
        json: bool,
    },
    /// Name a style: that of a picture, the mean of several, a draw or a code
    Add(AddArguments),
    /// Draw a sheet: pictures in the first row, one style a row below, with all names that it has
    Show(ShowArguments),
    /// Give a style another name
    Rename {
        #[command(flatten)]
        model: ModelArgument,
        /// The style
        name: String,
        /// Its new name
        new_name: String,
        #[command(flatten)]
        target: Target,
        /// Print JSON instead of a line
        #[arg(long)]
        json: bool,
    },
    /// Delete styles
    Delete {
        #[command(flatten)]
        model: ModelArgument,
        /// The styles
        #[arg(required = true)]
        names: Vec<String>,
        #[command(flatten)]
        target: Target,
        /// Print JSON instead of a line
        #[arg(long)]
        json: bool,
    },
}

#[derive(Args)]
struct ModelArgument {
    /// Model file, or the name of a model that is shipped or installed
    model: PathBuf,
}

#[derive(Args)]
struct Target {
    /// Write a new model file with the change, and leave the styles beside the model alone
    #[arg(long, value_name = "FILE")]
    into_model: Option<PathBuf>,
}

#[derive(Args)]
#[command(group(ArgGroup::new("origin").args(["pictures", "seed", "code"])))]
struct AddArguments {
    #[command(flatten)]
    model: ModelArgument,
    /// The style's name
    name: String,
    /// Pictures, or folders of pictures, whose styles are averaged
    ///
    /// With --into-model, and without pictures, --seed and --code, the style of this name that is
    /// kept beside the model goes into the new one.
    #[arg(required_unless_present_any = ["seed", "code", "into_model"])]
    pictures: Vec<PathBuf>,
    /// Draw the style; the same number gives the same style everywhere
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = program::seed)]
    seed: Option<u64>,
    /// Style code: as many numbers as the model's style codes have
    #[arg(
        long,
        value_name = "NUMBERS",
        value_delimiter = ',',
        allow_hyphen_values = true
    )]
    code: Option<Vec<f32>>,
    /// Domain that the pictures show [default: b; a if the model only has b2a]
    #[arg(long, value_enum)]
    domain: Option<DomainName>,
    /// Replace the style of this name, if there is one
    #[arg(long)]
    replace: bool,
    #[command(flatten)]
    target: Target,
    /// Print JSON instead of a line
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
struct ShowArguments {
    #[command(flatten)]
    model: ModelArgument,
    /// Where the sheet goes: .png, .jpg, .webp, .bmp or .ppm
    sheet: PathBuf,
    /// Pictures to translate, or folders of pictures
    #[arg(required = true)]
    pictures: Vec<PathBuf>,
    /// Show this style only; can be given several times
    #[arg(long, value_name = "NAME")]
    style: Vec<String>,
    /// Show draws, too: the styles of the seeds 0 to N-1
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = clap::value_parser!(u64).range(..=1000))]
    draws: u64,
    /// Show at most so many pictures, spread evenly over those given
    #[arg(long, value_name = "N", default_value_t = 6, value_parser = clap::value_parser!(u8).range(1..))]
    columns: u8,
    /// Height of the pictures in pixels [default: the size that the model was trained at]
    #[arg(long, value_name = "PIXELS", value_parser = clap::value_parser!(u32).range(16..=1024))]
    size: Option<u32>,
    /// Translate from domain a to domain b (the default, unless the model only has b2a)
    #[arg(long, conflicts_with = "b2a")]
    a2b: bool,
    /// Translate from domain b to domain a
    #[arg(long)]
    b2a: bool,
    /// Print JSON instead of a line
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum DomainName {
    A,
    B,
}

impl From<DomainName> for Domain {
    fn from(name: DomainName) -> Self {
        match name {
            DomainName::A => Self::A,
            DomainName::B => Self::B,
        }
    }
}

fn main() -> ExitCode {
    program::run_beside_others("munit-style", |arguments: Arguments| {
        match arguments.command {
            Command::List { model, json } => list(&model, json),
            Command::Add(arguments) => add(arguments),
            Command::Show(arguments) => show(arguments),
            Command::Rename {
                model,
                name,
                new_name,
                target,
                json,
            } => {
                let mut styles = open(&model, &target)?;
                styles.rename(&name, &new_name)?;
                let file = styles.save()?;
                let replaces = target.into_model.is_none() && styles.replaces(&new_name);
                if replaces {
                    tell_of_replaced(&new_name);
                }
                print_line(&match json {
                    true => serde_json::to_string_pretty(&json!({
                        "file": file,
                        "name": new_name,
                        "was": name,
                        "replaces": replaces,
                    }))?,
                    false => format!("{}  {name} is now {new_name}", file.display()),
                })
            }
            Command::Delete {
                model,
                names,
                target,
                json,
            } => {
                let mut styles = open(&model, &target)?;
                names.iter().try_for_each(|name| styles.delete(name))?;
                let file = styles.save()?;
                print_line(&match json {
                    true => serde_json::to_string_pretty(&json!({
                        "file": file,
                        "deleted": names,
                    }))?,
                    false => format!("{}  without {}", file.display(), names.join(", ")),
                })
            }
        }
    })
}

fn open(model: &ModelArgument, target: &Target) -> Result<NamedStyles> {
    NamedStyles::open(&find_model(&model.model)?, target.into_model.as_deref())
}

/// The model's own style is not gone, only out of reach.
fn tell_of_replaced(name: &str) {
    eprintln!(
        "munit-style: {name} now stands in the place of the model's own style of this name, which comes back \
         when this one is deleted or renamed"
    );
}

fn list(model: &ModelArgument, json: bool) -> Result<()> {
    let styles = NamedStyles::open(&find_model(&model.model)?, None)?;
    let listed = styles.list();
    if json {
        return print_line(&serde_json::to_string_pretty(&listed)?);
    }
    if listed.is_empty() {
        return print_line("no named styles; munit-style add gives a style a name");
    }
    let metadata = styles.metadata();
    let rows: Vec<[String; 4]> = listed
        .iter()
        .map(|style| {
            [
                style.name.clone(),
                metadata.domain_name(style.domain).to_owned(),
                kept(style).to_owned(),
                numbers(&style.code, 2),
            ]
        })
        .collect();
    print_line(&table(&rows))
}

fn kept(style: &Listed) -> &'static str {
    match (style.kept, style.replaces) {
        (Kept::Model, _) => "in the model",
        (Kept::Beside, false) => "beside it",
        (Kept::Beside, true) => "beside it, in the model's place",
    }
}

/// Rows with their cells one below the other.
fn table<const N: usize>(rows: &[[String; N]]) -> String {
    let width = |column: usize| {
        let cells = rows.iter().map(|row| row[column].chars().count());
        cells.max().unwrap_or_default()
    };
    let lines: Vec<String> = rows
        .iter()
        .map(|row| {
            let cells = row.iter().enumerate();
            let cells: Vec<_> = cells
                .map(|(column, cell)| format!("{cell:<0$}", width(column)))
                .collect();
            cells.join("  ").trim_end().to_owned()
        })
        .collect();
    lines.join("\n")
}

fn numbers(code: &[f32], decimals: usize) -> String {
    let numbers: Vec<_> = code
        .iter()
        .map(|number| format!("{number:.decimals$}"))
        .collect();
    numbers.join(",")
}

fn add(arguments: AddArguments) -> Result<()> {
    let mut styles = open(&arguments.model, &arguments.target)?;
    let name = arguments.name.trim();
    let origin = match (arguments.seed, arguments.code) {
        (Some(seed), _) => Origin::Seed(seed),
        (_, Some(code)) => Origin::Code(code),
        _ if arguments.pictures.is_empty() => Origin::Beside,
        _ => Origin::Pictures(arguments.pictures),
    };
    let domain = arguments.domain.map(Domain::from);
    let (style, pictures) = styles.style(name, domain, &origin, |problem| {
        eprintln!("munit-style: skipped {}", sentence(problem));
    })?;
    let (domain, code) = (style.domain, style.code.clone());
    styles.add(name, style, arguments.replace)?;
    let file = styles.save()?;
    let replaces = arguments.target.into_model.is_none() && styles.replaces(name);
    if replaces {
        tell_of_replaced(name);
    }
    if arguments.json {
        let added = json!({
            "name": name,
            "domain": domain,
            "code": code,
            "pictures": pictures,
            "file": file,
            "replaces": replaces,
        });
        return print_line(&serde_json::to_string_pretty(&added)?);
    }
    let from = match pictures {
        0 => String::new(),
        1 => "  1 picture".to_owned(),
        _ => format!("  mean of {pictures} pictures"),
    };
    let code: Vec<String> = code.iter().map(f32::to_string).collect();
    print_line(&format!(
        "{}  {name}{from}  --style {}",
        file.display(),
        code.join(",")
    ))
}

fn show(arguments: ShowArguments) -> Result<()> {
    let path = find_model(&arguments.model.model)?;
    let originals: Vec<_> = arguments.pictures.iter().map(PathBuf::as_path).collect();
    refuse_to_replace(&arguments.sheet, &originals)?;
    ensure!(
        !arguments.sheet.is_dir(),
        "{}: this is a folder; the sheet is one picture",
        arguments.sheet.display()
    );
    let styles = NamedStyles::open(&path, None)?;
    let wanted = match (arguments.a2b, arguments.b2a) {
        (true, _) => Some(Direction::A2b),
        (_, true) => Some(Direction::B2a),
        _ => None,
    };
    let direction = chosen_direction(&styles.metadata(), &path, wanted)?;
    let request = SheetRequest {
        pictures: arguments.pictures,
        columns: arguments.columns.into(),
        names: arguments.style,
        draws: arguments.draws,
        size: arguments.size,
    };
    let StyleSheet { sheet, rows } = style_sheet(&styles, direction, &request)?;
    let sheet = sheet.render();
    save_picture(&arguments.sheet, &sheet)?;
    if arguments.json {
        let shown = json!({
            "file": arguments.sheet,
            "width": sheet.width(),
            "height": sheet.height(),
            "direction": direction,
            "rows": rows,
        });
        return print_line(&serde_json::to_string_pretty(&shown)?);
    }
    print_line(&format!(
        "{}  {}×{}",
        arguments.sheet.display(),
        sheet.width(),
        sheet.height()
    ))
}
