//! The plots, as SVG.

use maud::{Markup, html};

use super::super::report::SubjectReport;
use super::super::stats::Summary;
use super::scale::{Scale, label, number};

const WIDTH: f64 = 900.0;

/// Where names end and axes begin.
const LEFT: f64 = 150.0;

/// How many colours there are.
const COLOURS: usize = 8;

fn colour(prefix: char, n: usize) -> String {
    format!("{prefix}{}", n % COLOURS)
}

/// A subject's place among all, and its samples.
pub(super) type Row<'r> = (usize, &'r str, &'r Summary);

/// Every sample as a dot, with the median and its interval; a row a subject.
pub(super) fn distribution(rows: &[Row<'_>]) -> Markup {
    const ROW: f64 = 40.0;
    let scale = Scale::new(rows.iter().map(|(_, _, s)| s.max_ms), LEFT, WIDTH - 30.0);
    let height = rows.len() as f64 * ROW + 40.0;
    html! {
        svg viewBox=(format!("0 0 {WIDTH} {height}")) role="img" {
            @for tick in scale.ticks() {
                line.axis x1=(scale.at(tick)) x2=(scale.at(tick)) y1="5" y2=(height - 30.0) {}
                text.faint x=(scale.at(tick)) y=(height - 12.0) text-anchor="middle" {
                    (label(tick)) " ms"
                }
            }
            @for (i, (n, name, summary)) in rows.iter().enumerate() {
                @let middle = i as f64 * ROW + 25.0;
                text x=(LEFT - 12.0) y=(middle + 4.0) text-anchor="end" { (name) }
                @if let Some([low, high]) = summary.median_ci95_ms {
                    line.interval x1=(scale.at(low)) x2=(scale.at(high).max(scale.at(low) + 1.0))
                        y1=(middle + 13.0) y2=(middle + 13.0) {}
                }
                @for (k, value) in summary.values_ms.iter().enumerate() {
                    circle class={ "dot " (colour('s', *n)) } r="4" cx=(scale.at(*value))
                        cy=(middle + jitter(k)) {}
                }
                line.tick x1=(scale.at(summary.median_ms)) x2=(scale.at(summary.median_ms))
                    y1=(middle - 12.0) y2=(middle + 16.0) {
                    title { "median " (number(summary.median_ms)) " ms" }
                }
            }
        }
    }
}

/// Keeps dots of like values apart.
fn jitter(k: usize) -> f64 {
    [0.0, -5.0, 5.0, -2.5, 2.5][k % 5]
}

/// One point of a curve.
pub(super) type Point = (f64, f64);

/// A curve a subject: how `what` follows from `of`.
pub(super) fn curves(curves: &[(usize, &str, Vec<Point>)], of: &str, what: &str) -> Markup {
    const WIDTH_OF_ONE: f64 = 450.0;
    const HEIGHT: f64 = 300.0;
    let points = || curves.iter().flat_map(|(_, _, points)| points);
    let x = Scale::new(points().map(|point| point.0), 60.0, WIDTH_OF_ONE - 20.0);
    let y = Scale::new(points().map(|point| point.1), HEIGHT - 50.0, 30.0);
    html! {
        svg viewBox=(format!("0 0 {WIDTH_OF_ONE} {HEIGHT}")) role="img" {
            text.faint x="10" y="16" { (what) }
            text.faint x=(WIDTH_OF_ONE - 20.0) y=(HEIGHT - 10.0) text-anchor="end" { (of) }
            @for tick in y.ticks() {
                line.axis x1="60" x2=(WIDTH_OF_ONE - 20.0) y1=(y.at(tick)) y2=(y.at(tick)) {}
                text.faint x="54" y=(y.at(tick) + 4.0) text-anchor="end" { (label(tick)) }
            }
            @for tick in x.ticks().filter(|tick| tick.fract() == 0.0) {
                text.faint x=(x.at(tick)) y=(HEIGHT - 32.0) text-anchor="middle" { (label(tick)) }
            }
            @for (n, name, points) in curves {
                polyline class={ "curve " (colour('l', *n)) }
                    points=(path(points, |(a, b)| (x.at(a), y.at(b)))) {
                    title { (name) }
                }
                @for (a, b) in points {
                    circle class=(colour('s', *n)) r="3.5" cx=(x.at(*a)) cy=(y.at(*b)) {
                        title { (name) ": " (number(*b)) }
                    }
                }
            }
        }
    }
}

fn path(points: &[Point], place: impl Fn(Point) -> Point) -> String {
    let places = points.iter().map(|point| place(*point));
    let places: Vec<_> = places.map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
    places.join(" ")
}

/// Which colour is whose.
pub(super) fn legend(names: &[(usize, &str)]) -> Markup {
    html! {
        p {
            @for (n, name) in names {
                svg viewBox="0 0 12 12" style="display:inline-block;width:.8em;height:.8em" {
                    rect class=(colour('s', *n)) width="12" height="12" rx="2" {}
                }
                " " (name) " \u{2003}"
            }
        }
    }
}

/// Where the time of a start goes: host above, guest below, on one axis.
pub(super) fn timeline(subject: &SubjectReport) -> Markup {
    const LANE: f64 = 70.0;
    const BAR: f64 = 34.0;
    let phases = &subject.phases;
    let scale = Scale::new(phases.iter().map(|p| p.at_ms), 70.0, WIDTH - 30.0);
    let starts = std::iter::once(0.0).chain(phases.iter().map(|phase| phase.at_ms));
    let height = 2.0 * LANE + 60.0;
    html! {
        svg viewBox=(format!("0 0 {WIDTH} {height}")) role="img" {
            @for tick in scale.ticks() {
                line.axis x1=(scale.at(tick)) x2=(scale.at(tick)) y1="10" y2=(height - 30.0) {}
                text.faint x=(scale.at(tick)) y=(height - 12.0) text-anchor="middle" {
                    (label(tick)) " ms"
                }
            }
            @for (lane, name) in ["host", "guest"].iter().enumerate() {
                text x="10" y=(lane as f64 * LANE + 52.0) { (name) }
            }
            @for (phase, start) in phases.iter().zip(starts) {
                @let lane = if phase.on == "guest" { LANE } else { 0.0 };
                // A guest's stamp may lie a little before the host's.
                @let width = (scale.at(phase.at_ms) - scale.at(start)).max(0.75);
                rect class=(phase.on) x=(scale.at(start)) y=(lane + 30.0) width=(width)
                    height=(BAR) fill-opacity=".8" stroke="var(--paper)" {
                    title { (phase.name) ": " (number(phase.at_ms - start)) " ms" }
                }
                @if width > 7.0 * phase.name.len() as f64 {
                    text x=(scale.at(start) + width / 2.0) y=(lane + 24.0) text-anchor="middle" {
                        (phase.name)
                    }
                }
            }
        }
    }
}
