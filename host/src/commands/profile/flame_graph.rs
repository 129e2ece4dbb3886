//! PURE: a flame graph as SVG (<https://www.w3.org/TR/SVG11/>): a box for each function of each stack, as wide as its CPU time, above
//! the one that called it. A click on a box widens it. (The kept crate for this, `inferno`, has a licence that we do not take.)

use std::fmt::Write;

use wasmhost_supervise::profile::HostProfile;

use super::tree::CallNode;

/// Width and height of a box of all CPU time, in pixels.
const WIDTH: f64 = 1_200.0;
const ROW: usize = 18;
/// Above and below the boxes.
const MARGIN: usize = 40;
/// Boxes that are narrower, in pixels, are left out, with all above them.
const NARROWEST: f64 = 0.2;
/// A letter's width, in pixels: about that of the font at its size.
const LETTER: f64 = 6.6;

/// Widens what is clicked: all boxes are placed anew by the part of the width that they have.
const SCRIPT: &str = "\
const W=1200,L=6.6,all=[...document.querySelectorAll('g.f')].map(g=>({g,r:g.querySelector('rect'),t:g.querySelector('text'),\
x:+g.dataset.x,w:+g.dataset.w,d:+g.dataset.d}));\
function zoom(b){const k=1/b.w;for(const o of all){const over=o.d<b.d&&o.x<=b.x+1e-9&&o.x+o.w>=b.x+b.w-1e-9;\
const x=over?0:(o.x-b.x)*k,w=over?1:o.w*k;const out=!over&&(x<-1e-9||x+w>1+1e-9||o.d<b.d);o.g.style.display=out?'none':'';\
if(out)continue;o.r.setAttribute('x',x*W);o.r.setAttribute('width',Math.max(w*W-.5,.2));o.t.setAttribute('x',x*W+3);\
const n=Math.floor((w*W-6)/L),s=o.g.dataset.n;o.t.textContent=n<3?'':s.length<=n?s:s.slice(0,n-1)+'…';o.r.style.opacity=over?.5:1}}\
for(const o of all)o.g.addEventListener('click',()=>zoom(o));";

/// The graph.
pub(super) fn write(profile: &HostProfile, host: &str) -> String {
    let root = CallNode::of(profile);
    let height = root.height() * ROW + 2 * MARGIN;
    let mut svg = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{height}\" viewBox=\"0 0 {WIDTH} {height}\" font-family=\"monospace\" font-size=\"11\">\n\
         <style>g.f{{cursor:pointer}}g.f:hover rect{{stroke:#000;stroke-width:.7}}text{{pointer-events:none}}</style>\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n"
    );
    let title =
        format!("{host}: CPU time of guests, {} samples of {:.1} s", profile.samples, profile.duration_ms as f64 / 1e3);
    let _ = writeln!(svg, "<text x=\"10\" y=\"24\" font-size=\"15\">{}</text>", escaped(&title));
    if root.cpu_us == 0 {
        svg.push_str("<text x=\"10\" y=\"46\">no samples</text>\n");
    } else {
        let mut graph = Graph { svg, all_us: root.cpu_us as f64, bottom: height - MARGIN };
        graph.draw("all", &root, 0.0, 0);
        svg = graph.svg;
    }
    let _ = writeln!(svg, "<script><![CDATA[{SCRIPT}]]></script>\n</svg>");
    svg
}

struct Graph {
    svg: String,
    all_us: f64,
    /// Where the boxes begin, in pixels from above.
    bottom: usize,
}

impl Graph {
    /// Draws a node and all above it. `left`: where it begins, as a part of the width. Its depth is that of a stack: some 130.
    fn draw(&mut self, name: &str, node: &CallNode<'_>, left: f64, depth: usize) {
        let width = node.cpu_us as f64 / self.all_us;
        if width * WIDTH < NARROWEST {
            return;
        }
        let y = self.bottom.saturating_sub((depth + 1) * ROW);
        let letters = ((width * WIDTH - 6.0) / LETTER).max(0.0) as usize;
        let (milliseconds, percent) = (node.cpu_us as f64 / 1e3, width * 100.0);
        let _ = writeln!(
            self.svg,
            "<g class=\"f\" data-x=\"{left:.7}\" data-w=\"{width:.7}\" data-d=\"{depth}\" data-n=\"{0}\"><title>{0} ({milliseconds:.1} ms, {percent:.2} %)</title><rect x=\"{1:.2}\" y=\"{y}\" width=\"{2:.2}\" height=\"{3}\" rx=\"1\" fill=\"{4}\"/><text x=\"{5:.2}\" y=\"{6}\">{7}</text></g>",
            escaped(name),
            left * WIDTH,
            (width * WIDTH - 0.5).max(NARROWEST),
            ROW - 1,
            colour(name),
            left * WIDTH + 3.0,
            y + 12,
            escaped(&shortened(name, letters)),
        );
        let mut left = left;
        for (name, called) in &node.called {
            self.draw(name, called, left, depth + 1);
            left += called.cpu_us as f64 / self.all_us;
        }
    }
}

/// As much of a name as there is room for.
fn shortened(name: &str, letters: usize) -> String {
    match letters {
        0..3 => String::new(),
        _ if name.chars().count() <= letters => name.to_owned(),
        _ => name.chars().take(letters - 1).chain(['…']).collect(),
    }
}

/// A warm colour, the same wherever a name is.
fn colour(name: &str) -> String {
    let hash = name.bytes().fold(5_381_u32, |hash, byte| hash.wrapping_mul(33) ^ u32::from(byte));
    format!("hsl({},{}%,{}%)", 10 + hash % 45, 70 + hash / 64 % 20, 62 + hash / 4_096 % 12)
}

/// For text and values of attributes (XML 1.0, sections 2.2 and 2.4): characters that XML has none for are left out.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '&' => escaped.push_str("&amp;"),
            '"' => escaped.push_str("&quot;"),
            '\u{fffe}' | '\u{ffff}' => {}
            _ if letter.is_control() => {}
            _ => escaped.push(letter),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::super::testing::profile;
    use super::*;

    #[test]
    fn each_function_is_a_box_as_wide_as_its_cpu_time() {
        let svg = write(&profile(), "h<");
        assert!(svg.contains(">h&lt;: CPU time of guests, 3 samples of 1.0 s</text>"), "{svg}");
        // All, a, main, f, g, b, and main of b.
        assert_eq!(svg.matches("<rect x=").count(), 7);
        assert!(svg.contains("data-x=\"0.0000000\" data-w=\"0.9000000\" data-d=\"2\" data-n=\"m!main\""), "{svg}");
        assert!(svg.contains("<title>m!g&lt;T&gt;&amp; (3.0 ms, 30.00 %)</title>"), "{svg}");
        assert!(svg.contains(">m!f;x</text>"));
    }

    #[test]
    fn without_samples_it_says_so() {
        let svg = write(&HostProfile::default(), "h");
        assert!(svg.contains("no samples") && !svg.contains("class=\"f\""), "{svg}");
    }

    #[test]
    fn names_are_as_long_as_there_is_room() {
        assert_eq!(
            (shortened("abcdef", 4), shortened("abcdef", 6), shortened("abc", 2)),
            ("abc…".into(), "abcdef".into(), String::new())
        );
    }
}
