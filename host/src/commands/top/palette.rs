//! PURE: colours and attributes. All that they say is said by texts, too.

use ratatui::style::{Color, Modifier, Style};

/// What a text is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TopPaint {
    Plain,
    /// What matters less.
    Dim,
    Strong,
    Title,
    /// The titles of a table.
    Head,
    /// The titles of the table that keys move in.
    HeadIn,
    Selected,
    Bars,
    Warn,
    Bad,
}

/// How texts are painted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TopPalette {
    has_colours: bool,
}

impl TopPalette {
    /// With colours, or with bold, underlined and reversed text only.
    pub(super) fn new(has_colours: bool) -> Self {
        Self { has_colours }
    }

    /// Of a text. (Only the first eight colours, which every terminal with colours has and its user has chosen.)
    pub(super) fn style(self, paint: TopPaint) -> Style {
        let style = Style::new();
        let (style, colour) = match paint {
            TopPaint::Plain | TopPaint::Dim => (style, None),
            TopPaint::Strong => (style.add_modifier(Modifier::BOLD), None),
            TopPaint::Title => (style.add_modifier(Modifier::BOLD), Some(Color::Cyan)),
            TopPaint::Head => (style.add_modifier(Modifier::UNDERLINED), None),
            TopPaint::HeadIn => (style.add_modifier(Modifier::UNDERLINED | Modifier::BOLD), Some(Color::Cyan)),
            TopPaint::Selected => (style.add_modifier(Modifier::REVERSED), None),
            TopPaint::Bars => (style, Some(Color::Green)),
            TopPaint::Warn => (style.add_modifier(Modifier::BOLD), Some(Color::Yellow)),
            TopPaint::Bad => (style.add_modifier(Modifier::BOLD), Some(Color::Red)),
        };
        match colour.filter(|_| self.has_colours) {
            Some(colour) => style.fg(colour),
            None => style,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_colours_there_are_none() {
        use TopPaint::{Bad, Bars, Dim, Head, HeadIn, Plain, Selected, Strong, Title, Warn};
        for paint in [Plain, Dim, Strong, Title, Head, HeadIn, Selected, Bars, Warn, Bad] {
            let style = TopPalette::new(false).style(paint);
            assert_eq!((style.fg, style.bg), (None, None), "{paint:?}");
        }
        assert_eq!(TopPalette::new(true).style(TopPaint::Bad).fg, Some(Color::Red));
    }
}
