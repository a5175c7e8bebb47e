//! Parses small XML documents, such as answers of cloud APIs, to trees of [`Element`]s. Namespaces
//! are ignored.

use crate::limits::XML_DEPTH;
use quick_xml::Reader;
use quick_xml::events::{BytesStart, Event};
use std::ops::Range;

/// Why a text is not a document that can be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum XmlError {
    /// It is not XML.
    #[error("the answer is not XML: {0}")]
    Syntax(String),
    /// Elements are in one another more than [`XML_DEPTH`] deep.
    #[error("the answer is nested deeper than {XML_DEPTH} elements")]
    TooDeep,
    /// It refers to an entity that only a document type could define; those are not read.
    #[error("the answer has an unknown entity")]
    UnknownEntity,
    /// It ends too early, or there is more after its end.
    #[error("the answer is not a whole XML document")]
    NotWhole,
}

/// An element: its name without a prefix, its attributes, its text, and the elements in it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Element {
    /// The name.
    pub(crate) name: String,
    /// All text directly in it, without spaces around it.
    pub(crate) text: String,
    /// The names and values of its attributes, as written.
    pub(crate) attributes: Vec<(String, String)>,
    /// Where in the document its content is, as written.
    pub(crate) content: Range<usize>,
    /// The elements in it.
    pub(crate) children: Vec<Element>,
}

impl Element {
    /// The root element of a document.
    pub(crate) fn parse(document: &str) -> Result<Element, XmlError> {
        let mut reader = Reader::from_str(document);
        let mut open = vec![Element::default()];
        loop {
            let before = reader.buffer_position() as usize;
            let event = reader.read_event().map_err(|e| XmlError::Syntax(e.to_string()))?;
            match event {
                Event::Start(start) => {
                    if open.len() > XML_DEPTH {
                        return Err(XmlError::TooDeep);
                    }
                    let mut element = Element::started(&start);
                    element.content.start = reader.buffer_position() as usize;
                    open.push(element);
                }
                Event::Empty(start) => last(&mut open).children.push(Element::started(&start)),
                Event::End(_) => {
                    let mut closed = open.pop().unwrap_or_default();
                    closed.content.end = before;
                    closed.text = closed.text.trim().to_owned();
                    last(&mut open).children.push(closed);
                }
                Event::Text(text) => last(&mut open).text.push_str(&String::from_utf8_lossy(&text)),
                Event::CData(text) => last(&mut open).text.push_str(&String::from_utf8_lossy(&text)),
                Event::GeneralRef(reference) => {
                    let character = reference.resolve_char_ref().ok().flatten();
                    match character.or_else(|| named_character(&reference)) {
                        Some(character) => last(&mut open).text.push(character),
                        None => return Err(XmlError::UnknownEntity),
                    }
                }
                Event::Eof => break,
                _ => {}
            }
        }
        let root = open.pop().filter(|_| open.is_empty()).and_then(|mut all| all.children.pop());
        root.ok_or(XmlError::NotWhole)
    }

    fn started(start: &BytesStart<'_>) -> Element {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let attributes = start.attributes().flatten();
        let attributes = attributes.map(|one| (text(one.key.local_name().as_ref()), text(&one.value)));
        Element {
            name: text(start.local_name().as_ref()),
            attributes: attributes.collect(),
            ..Element::default()
        }
    }

    /// The value of an attribute; empty if it is missing.
    pub(crate) fn attribute(&self, name: &str) -> &str {
        let found = self.attributes.iter().find(|(given, _)| given == name);
        found.map(|(_, value)| value.as_str()).unwrap_or_default()
    }

    /// Its content as written in `document`, the text that it was parsed from.
    pub(crate) fn written<'a>(&self, document: &'a str) -> &'a str {
        document.get(self.content.clone()).unwrap_or_default()
    }

    /// The first element at a path of names with dots between them.
    pub(crate) fn at(&self, path: &str) -> Option<&Element> {
        path.split('.').try_fold(self, |element, name| element.children.iter().find(|c| c.name == name))
    }

    /// The text at a path; empty if it is missing.
    pub(crate) fn text(&self, path: &str) -> String {
        self.at(path).map(|element| element.text.clone()).unwrap_or_default()
    }

    /// The elements directly in the one at a path; none if it is missing.
    pub(crate) fn items(&self, path: &str) -> &[Element] {
        self.at(path).map(|element| element.children.as_slice()).unwrap_or_default()
    }
}

fn last(open: &mut Vec<Element>) -> &mut Element {
    if open.is_empty() {
        open.push(Element::default());
    }
    let at = open.len() - 1;
    &mut open[at]
}

fn named_character(name: &[u8]) -> Option<char> {
    match name {
        b"amp" => Some('&'),
        b"lt" => Some('<'),
        b"gt" => Some('>'),
        b"quot" => Some('"'),
        b"apos" => Some('\''),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_are_trees() {
        let text = "<?xml version=\"1.0\"?><r xmlns=\"http://x/\"><a>1 &amp; &#50;</a><l><item>x</item><n:item><![CDATA[<y>]]></n:item></l><e/></r>";
        let root = Element::parse(text).unwrap();
        assert_eq!((root.name.as_str(), root.text("a")), ("r", "1 & 2".to_owned()));
        assert_eq!(root.items("l").iter().map(|item| item.text.as_str()).collect::<Vec<_>>(), ["x", "<y>"]);
        assert_eq!(root.at("a").unwrap().written(text), "1 &amp; &#50;");
        assert_eq!((root.attribute("xmlns"), root.attribute("none")), ("http://x/", ""));
        assert!(root.at("e").is_some() && root.at("l.none").is_none() && root.items("none").is_empty());
    }

    #[test]
    fn damaged_and_deep_documents_are_refused() {
        for text in ["", "<a>", "<a></b>", "no", "<a>&unknown;</a>"] {
            Element::parse(text).unwrap_err();
        }
        let deep = format!("{}{}", "<a>".repeat(XML_DEPTH + 2), "</a>".repeat(XML_DEPTH + 2));
        assert!(Element::parse(&deep).unwrap_err().to_string().contains("nested deeper"));
    }
}
