//! Arguments of system calls. A record has a machine word for each; the argument's type
//! says how much of that word is its value.

use super::{Field, FieldKind, Format};
use crate::layout::integer::{IntegerType, Width};
use crate::name::{EventName, SyscallSide};

/// Size in bytes, and sign, of an argument that is an integer.
pub(crate) type ArgumentType = (u32, bool);

/// How a type's name determines its value's size and sign.
enum Known {
    /// An integer of this size and sign on every machine.
    Integer(ArgumentType),
    /// The whole word, or a pointer.
    Word,
    /// It does not: only the kernel's headers do.
    No,
}

fn known(base_type: &str) -> Known {
    match IntegerType::of_name(base_type) {
        Some(IntegerType {
            width: Width::Fixed(size @ ..8),
            signed,
            ..
        }) => Known::Integer((size, signed)),
        Some(_) => Known::Word,
        None => Known::No,
    }
}

/// Returns the size and sign that the name of a type determines.
#[cfg(test)]
pub(crate) fn known_argument_type(name: &str) -> Option<ArgumentType> {
    match known(name) {
        Known::Integer(argument) => Some(argument),
        Known::Word | Known::No => None,
    }
}

impl Format {
    /// Returns which of a system call's two events has this name and format.
    pub(crate) fn syscall_side(&self, name: &EventName) -> Option<SyscallSide> {
        SyscallSide::of(name, self.fields().first().map(Field::name))
    }

    /// Whether it is the format of a system call's event. A format file does not state
    /// the category.
    pub(crate) fn has_syscall_shape(&self) -> bool {
        let first = self.fields().first().map(Field::name);
        SyscallSide::of_event(self.name(), first).is_some()
    }

    /// Finds the types of a system call's arguments. `typedefs` is asked about types
    /// whose names do not determine size and sign: `old_uid_t`, `enum pid_type`.
    pub(crate) fn find_argument_types(&mut self, typedefs: &dyn Fn(&str) -> Option<ArgumentType>) {
        if !self.has_syscall_shape() {
            return;
        }
        for field in self.fields.iter_mut().skip(self.common_count + 1) {
            let declaration = field.declaration();
            if field.kind() != FieldKind::Scalar || declaration.text().contains(['*', '[']) {
                continue;
            }
            let base_type = declaration.base_type();
            let argument = match known(&base_type) {
                Known::Integer(argument) => Some(argument),
                Known::Word => None,
                Known::No => typedefs(&base_type),
            };
            field.set_argument(argument.filter(|(size, _)| *size < field.size()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_of_less_than_a_word() {
        let arguments = [
            "pid_t pid",
            "const clockid_t which",
            "umode_t mode",
            "size_t count",
            "const char * path",
            "enum pid_type kind",
            "old_uid_t uid",
            "unknown_t x",
        ];
        let lines: String = arguments
            .iter()
            .enumerate()
            .map(|(index, argument)| {
                let offset = 16 + 8 * index;
                format!("\tfield:{argument};\toffset:{offset};\tsize:8;\tsigned:0;\n")
            })
            .collect();
        let format = |name: &str| {
            let text = format!(
                "name: {name}\nID: 1\nformat:\n\
                \tfield:unsigned short common_type;\toffset:0;\tsize:2;\tsigned:0;\n\n\
                \tfield:int __syscall_nr;\toffset:8;\tsize:4;\tsigned:1;\n\
                {lines}\nprint fmt: \"\"\n"
            );
            let mut format = Format::parse(&text).expect("a format");
            format.find_argument_types(&|name| match name {
                "enum pid_type" => Some((4, false)),
                "old_uid_t" => Some((2, false)),
                _ => None,
            });
            let fields = format.fields().iter().skip(1);
            fields.map(Field::argument).collect::<Vec<_>>()
        };
        let (int, half) = (Some((4, true)), Some((2, false)));
        assert_eq!(
            format("sys_enter_x"),
            [int, int, half, None, None, Some((4, false)), half, None]
        );
        // Other events have no arguments, however large their fields are.
        assert_eq!(format("x"), [None; 8]);
    }
}
