//! How the board of `garth top` looks, on a terminal of any size.

use ratatui::Frame;
use ratatui::layout::{Alignment, Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style, Stylize};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Cell, Clear, Paragraph, Row, Sparkline, Table, TableState};

use super::board::{Board, Sort};
use crate::cli::figures::{binary, bits, part};
use crate::cli::shown;
use crate::measure::{Sample, UsageChange};
use crate::volume::status::VolumeHealth;

/// A column: its title, the sort that it belongs to, its width, and from which width of the terminal on it
/// is shown.
struct Column {
    title: &'static str,
    sort: Option<Sort>,
    width: u16,
    from: u16,
    text: fn(&Sample, UsageChange) -> String,
}

const fn column(
    title: &'static str,
    sort: Option<Sort>,
    width: u16,
    from: u16,
    text: fn(&Sample, UsageChange) -> String,
) -> Column {
    Column { title, sort, width, from, text }
}

/// After the name, which takes what is left.
const COLUMNS: [Column; 9] = [
    column("CPU", Some(Sort::Cpu), 5, 0, |_, now| part(now.cpus)),
    column("MEM", Some(Sort::Memory), 5, 30, |one, _| binary(one.usage.memory.used as f64)),
    column("TASKS", None, 5, 70, |one, _| one.usage.processes.to_string()),
    column("UP", Some(Sort::Up), 10, 50, |_, now| figure(now.up, bits)),
    column("DOWN", Some(Sort::Down), 10, 50, |_, now| figure(now.down, bits)),
    column("READ", Some(Sort::Disk), 5, 80, |_, now| figure(now.read, binary)),
    column("WRITE", Some(Sort::Disk), 5, 80, |_, now| figure(now.written, binary)),
    column("HELD", Some(Sort::Held), 5, 60, |_, now| figure(now.held(), part)),
    column("WAITS", None, 6, 100, |_, now| figure(worst(now), part)),
];

fn figure(value: Option<f64>, text: fn(f64) -> String) -> String {
    value.map_or_else(|| "-".to_owned(), text)
}

/// The resource that it waits for most.
fn worst(now: UsageChange) -> Option<f64> {
    let all = [now.waited_for_cpu, now.waited_for_memory, now.waited_for_io];
    all.into_iter().flatten().max_by(f64::total_cmp)
}

const KEYS: [(&str, &str); 6] = [
    ("q", "quit"),
    ("s", "sort"),
    ("r", "reverse"),
    ("/", "filter"),
    ("p", "pause"),
    ("h", "help"),
];

const HELP: [&str; 11] = [
    "q, ctrl-c     quit",
    "s, left right sort by the next or the previous column",
    "r             the other way round",
    "/             show those whose names contain what is typed; esc: all",
    "p, space      pause, and go on",
    "up down       select, for curves of it below the table",
    "",
    "CPU   100% is one processor, all the time",
    "HELD  part of the time in which --cpus or garth limit held it",
    "WAITS part of the time in which some task waited for a resource",
    "UP, DOWN      bits a second of the layer named in the first line",
];

/// Draws all.
pub fn draw(frame: &mut Frame, board: &mut Board) {
    let area = frame.area();
    let (rows, place) = {
        let rows = board.rows();
        let place = board.place(&rows);
        (rows.into_iter().cloned().collect::<Vec<_>>(), place)
    };
    let curves = if place.is_some() && area.height >= 14 { 4 } else { 0 };
    let foot = u16::from(area.height >= 6);
    let parts = Layout::vertical([
        Constraint::Length(1),
        Constraint::Min(0),
        Constraint::Length(curves),
        Constraint::Length(foot),
    ]);
    let [head, body, below, last] = parts.areas(area);
    frame.render_widget(title(board, rows.len()), head);
    board.page = usize::from(body.height.saturating_sub(1)).max(1);
    if rows.is_empty() {
        let text = match board.count() {
            0 => "nothing is running: garth wrap -d --name web -- ... starts something",
            _ => "no name contains that; esc shows all",
        };
        frame.render_widget(Paragraph::new(text).dim(), body);
    } else {
        table(frame, board, &rows, place, body);
    }
    if let Some(sample) = place.map(|at| &rows[at]).filter(|_| curves > 0) {
        curves_of(frame, board, sample, below);
    }
    frame.render_widget(keys(board), last);
    if board.help {
        help(frame, area);
    }
}

fn title(board: &Board, shown: usize) -> Line<'static> {
    let count = match board.count() {
        all if all == shown => format!(" {all} running "),
        all => format!(" {shown} of {all} running "),
    };
    let mut spans = vec![Span::from("garth top").bold(), Span::from(count)];
    if board.paused {
        spans.push(Span::from(" paused ").black().on_yellow());
    }
    let arrow = if board.reversed { "reversed, " } else { "" };
    spans.push(
        Span::from(format!(" by {}, {arrow}network: {}", board.sort.word(), board.layer())).dim(),
    );
    Line::from(spans)
}

fn table(frame: &mut Frame, board: &Board, rows: &[Sample], place: Option<usize>, area: Rect) {
    let columns: Vec<&Column> = COLUMNS.iter().filter(|column| area.width >= column.from).collect();
    let head = columns.iter().map(|column| {
        let sorted = column.sort == Some(board.sort);
        let style = if sorted { Style::new().underlined() } else { Style::new() };
        Cell::from(Line::from(column.title).alignment(Alignment::Right)).style(style)
    });
    let name = Style::new().add_modifier(match board.sort {
        Sort::Name => Modifier::UNDERLINED,
        _ => Modifier::empty(),
    });
    let head = Row::new(std::iter::once(Cell::from("NAME").style(name)).chain(head)).bold();
    // Only what is on the screen is made.
    let visible = usize::from(area.height.saturating_sub(1));
    let first = place.map_or(0, |at| at.saturating_sub(visible.saturating_sub(1)));
    let rows_shown = rows.iter().skip(first).take(visible).map(|sample| {
        let now = sample.now.unwrap_or_default();
        let cells = columns.iter().map(|column| {
            Cell::from(Line::from((column.text)(sample, now)).alignment(Alignment::Right))
        });
        let name = Cell::from(shown(&sample.usage.name).into_owned());
        let row = Row::new(std::iter::once(name).chain(cells));
        let failing = sample.usage.volumes.iter().any(|volume| {
            matches!(volume.health, Some(VolumeHealth::Failed | VolumeHealth::Degraded))
        });
        let full = sample.usage.memory.limit.is_some_and(|limit| {
            let memory = &sample.usage.memory;
            memory.used.saturating_sub(memory.reclaimable.unwrap_or(0)) > limit / 10 * 9
        });
        match failing || full {
            true => row.fg(Color::Red),
            false => row,
        }
    });
    let widths = columns.iter().map(|column| Constraint::Length(column.width));
    let widths = std::iter::once(Constraint::Min(8)).chain(widths);
    let table = Table::new(rows_shown, widths)
        .header(head)
        .row_highlight_style(Style::new().add_modifier(Modifier::REVERSED));
    let mut state = TableState::new().with_selected(place.map(|at| at - first));
    frame.render_stateful_widget(table, area, &mut state);
}

/// Curves of the one that is selected, with their highest values.
fn curves_of(frame: &mut Frame, board: &Board, sample: &Sample, area: Rect) {
    let Some(history) = board.history(sample) else { return };
    let halves = Layout::horizontal([Constraint::Fill(1), Constraint::Fill(1)]);
    let name = shown(&sample.usage.name).into_owned();
    let curves = [
        (format!("{name}: cpu"), &history.cpus, part as fn(f64) -> String),
        (format!("network ({})", board.layer()), &history.network, bits),
    ];
    for ((title, values, text), area) in curves.into_iter().zip(halves.split(area).iter()) {
        let most = values.iter().copied().fold(0.0, f64::max);
        let title = format!("{title}, up to {}", text(most));
        let width = usize::from(area.width);
        let recent = values.iter().skip(values.len().saturating_sub(width));
        // A thousand steps are finer than any terminal's.
        let scale = if most > 0.0 { 1000.0 / most } else { 0.0 };
        let data: Vec<u64> = recent.map(|value| (value * scale) as u64).collect();
        let block = Block::new().title(Line::from(title).dim());
        frame.render_widget(Sparkline::default().block(block).data(data).max(1000), *area);
    }
}

fn keys(board: &Board) -> Line<'static> {
    if board.typing {
        let filter = shown(&board.filter).into_owned();
        return Line::from(vec![Span::from("/").bold(), Span::from(filter), Span::from("_")]);
    }
    let each = |(key, what): &(&'static str, &'static str)| {
        [Span::from(*key).bold(), Span::from(format!(" {what}  "))]
    };
    let mut spans: Vec<Span<'static>> = KEYS.iter().flat_map(each).collect();
    if !board.filter.is_empty() {
        spans.push(Span::from(format!("filter: {}", shown(&board.filter))).dim());
    }
    Line::from(spans)
}

fn help(frame: &mut Frame, area: Rect) {
    let width = HELP.iter().map(|line| line.len()).max().unwrap_or(0) as u16 + 4;
    let (width, height) = (width.min(area.width), (HELP.len() as u16 + 2).min(area.height));
    let place = Rect {
        x: area.x + (area.width - width) / 2,
        y: area.y + (area.height - height) / 2,
        width,
        height,
    };
    let lines: Vec<Line<'_>> = HELP.iter().map(|line| Line::from(format!(" {line}"))).collect();
    frame.render_widget(Clear, place);
    frame.render_widget(Paragraph::new(lines).block(Block::bordered().title(" keys ")), place);
}
