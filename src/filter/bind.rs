//! Binds a filter's words to one event.

use super::{
    Bits, BoundNode, COMM, Comparison, Condition, Constant, FieldsTest, FilterError,
    IntegerSubject, IntegerTest, Name, Owner, Subject, TEXT, Test, TextTest,
};
use crate::format::print::FieldPrint;
use crate::format::{Field, FieldKind, Format};
use crate::name::SYSCALL_NUMBER;

/// Resolves the words of a filter for one event.
pub(super) struct Binder<'f, 'n> {
    pub(super) format: &'f Format,
    /// The names of a field's values.
    pub(super) names_of: &'n dyn Fn(&str) -> FieldPrint,
    /// The value of any other name, for a field.
    pub(super) constant: &'n dyn Fn(&str, &str) -> Option<i64>,
}

impl<'f> Binder<'f, '_> {
    pub(super) fn bind(&self, node: &Condition) -> Result<BoundNode<'f>, FilterError> {
        let all = |nodes: &[Condition]| -> Result<Vec<_>, _> {
            nodes.iter().map(|node| self.bind(node)).collect()
        };
        Ok(match node {
            Condition::And(nodes) => BoundNode::And(all(nodes)?),
            Condition::Or(nodes) => BoundNode::Or(all(nodes)?),
            Condition::Not(node) => BoundNode::Not(Box::new(self.bind(node)?)),
            Condition::Test(test) => self.bind_test(test)?,
        })
    }

    fn bind_test(&self, test: &Test) -> Result<BoundNode<'f>, FilterError> {
        let subject = self.subject(&test.name)?;
        let kind = self.kind(subject);
        let incomparable = |with| FilterError::Incomparable {
            field: test.name.to_string(),
            is: kind.words(),
            with,
        };
        let number = match &test.literal {
            Constant::Text(text) => return self.bind_text(test, subject, text),
            Constant::Number(number) => *number,
            Constant::NegativeName(name) => -i128::from(self.value(&test.name, name)?),
            Constant::Name(name) => match self.subject(name) {
                Ok(other) => return self.bind_fields(test, subject, (name, other)),
                Err(error) if name.index.is_some() || name.scope != Owner::Either => {
                    return Err(error);
                }
                Err(_) => i128::from(self.value(&test.name, &name.word)?),
            },
        };
        let SubjectKind::Integer { size, signed } = kind else {
            return Err(incomparable("a number"));
        };
        let mask = self.mask(test)?;
        let bound = match mask {
            Some(_) => in_range(number, 8, false),
            None => in_range(number, size, signed),
        };
        let number = bound.ok_or_else(|| FilterError::OutOfRange {
            field: test.name.to_string(),
            bits: if mask.is_some() { 64 } else { size * 8 },
            signed: signed && mask.is_none(),
            number,
        })?;
        Ok(BoundNode::Integer(IntegerTest {
            value: IntegerSubject {
                subject,
                size,
                signed,
            },
            mask,
            comparison: test.comparison,
            number,
        }))
    }

    fn bind_text(
        &self,
        test: &Test,
        subject: Subject<'f>,
        text: &str,
    ) -> Result<BoundNode<'f>, FilterError> {
        let kind = self.kind(subject);
        let field = || test.name.to_string();
        let incomparable = |with| FilterError::Incomparable {
            field: field(),
            is: kind.words(),
            with,
        };
        let SubjectKind::Text { limit } = kind else {
            return Err(incomparable("a string"));
        };
        let equal = match test.comparison {
            Comparison::Eq => true,
            Comparison::Ne => false,
            _ => return Err(incomparable("anything but by ==, != and ~")),
        };
        if test.mask.is_some() {
            return Err(incomparable("a mask"));
        }
        if text.len() > limit {
            return Err(FilterError::LongText {
                field: field(),
                limit,
            });
        }
        Ok(BoundNode::Text(TextTest {
            subject,
            equal,
            is_prefix: test.is_prefix,
            text: text.to_owned().into_bytes(),
        }))
    }

    fn bind_fields(
        &self,
        test: &Test,
        subject: Subject<'f>,
        (name, other): (&Name, Subject<'f>),
    ) -> Result<BoundNode<'f>, FilterError> {
        let integer = |name: &Name, subject| match self.kind(subject) {
            SubjectKind::Integer { size, signed } => Ok(IntegerSubject {
                subject,
                size,
                signed,
            }),
            kind => Err(FilterError::Incomparable {
                field: name.to_string(),
                is: kind.words(),
                with: "another field",
            }),
        };
        let left = integer(&test.name, subject)?;
        let right = integer(name, other)?;
        let is_large = |one: IntegerSubject<'_>| one.size == 8 && !one.signed;
        let incomparable = |with| FilterError::Incomparable {
            field: test.name.to_string(),
            is: "an integer",
            with,
        };
        // Neither type can represent all values of the other.
        if is_large(left) && right.signed || left.signed && is_large(right) {
            return Err(incomparable("one of 64 bits and the other sign"));
        }
        if test.mask.is_some() {
            return Err(incomparable("another field by some of its bits"));
        }
        Ok(BoundNode::Fields(FieldsTest {
            left,
            right,
            comparison: test.comparison,
        }))
    }

    fn mask(&self, test: &Test) -> Result<Option<u64>, FilterError> {
        let Some(all) = &test.mask else {
            return Ok(None);
        };
        let bits = all.iter().map(|bits| match bits {
            Bits::Number(number) => Ok(*number),
            Bits::Named(name) => self.value(&test.name, name).map(|value| value as u64),
        });
        let bits: Vec<u64> = bits.collect::<Result<_, _>>()?;
        Ok(Some(bits.iter().fold(0, |mask, bits| mask | bits)))
    }

    /// Returns the number that this name stands for as a value of the field.
    fn value(&self, field: &Name, name: &str) -> Result<i64, FilterError> {
        let print = (self.names_of)(&field.word);
        let mut named = print.names().filter(|one| one.name == name);
        let value = named.find_map(|one| Some(one.value? as i64));
        let value = value.or_else(|| (self.constant)(&field.word, name));
        value.ok_or_else(|| FilterError::NoConstant {
            field: field.word.clone(),
            name: name.to_owned(),
            names: print.names().map(|one| one.name.clone()).collect(),
        })
    }

    fn subject(&self, name: &Name) -> Result<Subject<'f>, FilterError> {
        let mut fields = self.format.fields().iter();
        let field = fields.find(|field| field.name() == name.word);
        if let Some(index) = name.index {
            return self.element(name, field, index);
        }
        match (name.scope, field) {
            (Owner::Event | Owner::Either, Some(field)) => return Ok(Subject::Field(field)),
            (Owner::Event, None) => {}
            (Owner::Task, _) | (Owner::Either, None) => match name.word.as_str() {
                "pid" => return Ok(Subject::Pid),
                "tid" => return Ok(Subject::Tid),
                "comm" => return Ok(Subject::Comm),
                "cpu" => return Ok(Subject::Cpu),
                "uid" => return Ok(Subject::Uid),
                "gid" => return Ok(Subject::Gid),
                "cgroup" => return Ok(Subject::Cgroup),
                _ => {}
            },
        }
        let fields = self.format.fields().iter();
        Err(FilterError::NoField {
            event: self.format.name().to_owned(),
            field: name.word.clone(),
            fields: fields.map(|field| field.name().to_owned()).collect(),
        })
    }

    /// Resolves an element of an array, or an argument of a system call by its number.
    fn element(
        &self,
        name: &Name,
        field: Option<&'f Field>,
        index: u32,
    ) -> Result<Subject<'f>, FilterError> {
        let none = || FilterError::NoElement {
            field: name.word.clone(),
            index,
        };
        let Some(field) = field else {
            if name.word != "args" || !self.is_syscall() {
                return Err(none());
            }
            let arguments = self.format.fields().iter();
            let mut arguments = arguments
                .filter(|field| field.name() != SYSCALL_NUMBER && !field.kind().is_dynamic());
            return arguments
                .nth(index as usize)
                .map(Subject::Field)
                .ok_or_else(none);
        };
        let size = field
            .element_size()
            .filter(|size| matches!(size, 1 | 2 | 4 | 8));
        let size = size
            .filter(|_| field.kind() == FieldKind::Array)
            .ok_or_else(none)?;
        let offset = index.checked_mul(size).ok_or_else(none)?;
        match offset.checked_add(size) {
            Some(end) if end <= field.size() => Ok(Subject::Element {
                field,
                offset,
                size,
            }),
            _ => Err(none()),
        }
    }

    fn is_syscall(&self) -> bool {
        self.format.has_syscall_shape()
    }

    fn kind(&self, subject: Subject<'_>) -> SubjectKind {
        subject.kind(self.is_syscall())
    }
}

#[derive(Clone, Copy)]
enum SubjectKind {
    Integer { size: u32, signed: bool },
    Text { limit: usize },
    Neither,
}

impl SubjectKind {
    fn words(self) -> &'static str {
        match self {
            Self::Integer { .. } => "an integer",
            Self::Text { .. } => "a string",
            Self::Neither => "neither an integer nor a string",
        }
    }
}

impl Subject<'_> {
    fn kind(self, in_syscall: bool) -> SubjectKind {
        let integer = |size, signed| SubjectKind::Integer { size, signed };
        let field = match self {
            Self::Pid | Self::Tid | Self::Cpu | Self::Uid | Self::Gid => return integer(4, false),
            Self::Cgroup => return integer(8, false),
            Self::Element { field, size, .. } => {
                return integer(size, field.signed() == Some(true));
            }
            Self::Comm => return SubjectKind::Text { limit: COMM },
            Self::Field(field) => field,
        };
        match field.kind() {
            _ if field.is_text() => SubjectKind::Text { limit: TEXT },
            FieldKind::Pointer if in_syscall && field.points_to_text() => {
                SubjectKind::Text { limit: TEXT }
            }
            FieldKind::Scalar | FieldKind::Pointer => {
                let word = (field.size(), field.signed() == Some(true));
                let (size, signed) = field.argument().unwrap_or(word);
                match size {
                    1 | 2 | 4 | 8 => integer(size, signed),
                    // A format file may have such a size for a pointer.
                    _ => SubjectKind::Neither,
                }
            }
            _ => SubjectKind::Neither,
        }
    }
}

/// Returns the number as 64 bits, if a value of this size and sign can have it.
fn in_range(number: i128, size: u32, signed: bool) -> Option<u64> {
    let bits = size * 8;
    let (low, high) = match signed {
        true => (-(1_i128 << (bits - 1)), (1_i128 << (bits - 1)) - 1),
        false => (0, (1_i128 << bits) - 1),
    };
    (low..=high).contains(&number).then_some(number as u64)
}
