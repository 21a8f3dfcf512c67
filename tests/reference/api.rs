//! docs/reference/api.md, from the protos and their comments.

use std::{collections::HashMap, fmt::Write};

use prost_reflect::{
    Cardinality, DescriptorPool, EnumDescriptor, FieldDescriptor, FileDescriptor, Kind,
    MessageDescriptor, MethodDescriptor, ServiceDescriptor,
};
use sandpool::proto::v1;

use crate::markdown;

const PACKAGE: &str = "sandpool.v1";
const HEAD: &str = "\
<!-- Written by `make docs` from proto/sandpool/v1. -->

# API

The package is `sandpool.v1`. Reflection and `grpc.health.v1.Health` are served, too. [Access](../access.md) says
who may call what.
";

pub fn render() -> String {
    let pool = DescriptorPool::decode(v1::DESCRIPTORS).unwrap();
    let mut page = HEAD.to_owned();
    let files: Vec<_> = pool
        .files()
        .filter(|file| file.package_name() == PACKAGE)
        .collect();
    page.push('\n');
    for service in files.iter().flat_map(FileDescriptor::services) {
        let methods: Vec<_> = service
            .methods()
            .map(|method| {
                let anchor = markdown::anchor(&method_name(&method));
                format!("[{}](#{anchor})", method.name())
            })
            .collect();
        let service = link(service.name());
        let _ = writeln!(page, "- {service}: {}", methods.join(", "));
    }
    for file in files {
        Page::of(&file, &mut page).write(&file);
    }
    page
}

/// What one file has, with its comments by the path that descriptors give them.
struct Page<'a> {
    text: &'a mut String,
    comments: HashMap<Vec<i32>, String>,
}

impl<'a> Page<'a> {
    fn of(file: &FileDescriptor, text: &'a mut String) -> Self {
        let source = file.file_descriptor_proto().source_code_info.clone();
        let locations = source.expect("protox keeps the comments").location;
        let comments = locations.into_iter().filter_map(|location| {
            let comment = location.leading_comments.or(location.trailing_comments)?;
            Some((location.path, comment))
        });
        Self {
            text,
            comments: comments.collect(),
        }
    }

    fn write(&mut self, file: &FileDescriptor) {
        for service in file.services() {
            self.service(&service);
        }
        for message in file.messages() {
            self.message(&message);
        }
        for enumeration in file.enums() {
            self.enumeration(&enumeration);
        }
    }

    fn comment(&self, path: &[i32]) -> String {
        let comment = self.comments.get(path).map_or("", String::as_str);
        let lines = comment
            .lines()
            .map(|line| line.strip_prefix(' ').unwrap_or(line));
        lines.collect::<Vec<_>>().join("\n").trim().to_owned()
    }

    fn paragraph(&mut self, path: &[i32]) {
        let comment = self.comment(path);
        if !comment.is_empty() {
            let _ = write!(self.text, "\n{}\n", markdown::text(&comment));
        }
    }

    fn service(&mut self, service: &ServiceDescriptor) {
        let _ = write!(self.text, "\n## {}\n", service.name());
        self.paragraph(service.path());
        for method in service.methods() {
            let _ = write!(self.text, "\n### {}\n", method_name(&method));
            let (request, response) = (method.input(), method.output());
            let stream = |is: bool| if is { "a stream of " } else { "" };
            let _ = write!(
                self.text,
                "\nTakes {}{}, gives {}{}.\n",
                stream(method.is_client_streaming()),
                link(&name(request.full_name())),
                stream(method.is_server_streaming()),
                link(&name(response.full_name())),
            );
            self.paragraph(method.path());
        }
    }

    fn message(&mut self, message: &MessageDescriptor) {
        let _ = write!(self.text, "\n### {}\n", name(message.full_name()));
        self.paragraph(message.path());
        let mut fields: Vec<_> = message.fields().collect();
        fields.sort_by_key(|field| field.path().last().copied());
        if fields.is_empty() {
            self.text.push_str("\nIt has no fields.\n");
        } else {
            self.text
                .push_str("\n| field | type | meaning |\n|---|---|---|\n");
        }
        for field in &fields {
            let _ = writeln!(
                self.text,
                "| `{}` | {} | {} |",
                field.name(),
                type_of(field),
                self.meaning(field)
            );
        }
        for nested in message.child_messages().filter(|it| !it.is_map_entry()) {
            self.message(&nested);
        }
        for nested in message.child_enums() {
            self.enumeration(&nested);
        }
    }

    fn meaning(&self, field: &FieldDescriptor) -> String {
        let comment = markdown::cell(&self.comment(field.path()));
        let Some(choice) = field.containing_oneof().filter(|it| !it.is_synthetic()) else {
            return comment;
        };
        let of = format!("One of `{}`.", choice.name());
        let about = markdown::cell(&self.comment(choice.path()));
        let is_first = choice.fields().next().as_ref() == Some(field);
        let about = if is_first { about } else { String::new() };
        [of, about, comment].join(" ").trim().replace("  ", " ")
    }

    fn enumeration(&mut self, enumeration: &EnumDescriptor) {
        let _ = write!(self.text, "\n### {}\n", name(enumeration.full_name()));
        self.paragraph(enumeration.path());
        self.text
            .push_str("\n| value | number | meaning |\n|---|---|---|\n");
        for value in enumeration.values() {
            let _ = writeln!(
                self.text,
                "| `{}` | {} | {} |",
                value.name(),
                value.number(),
                markdown::cell(&self.comment(value.path()))
            );
        }
    }
}

fn method_name(method: &MethodDescriptor) -> String {
    format!("{}.{}", method.parent_service().name(), method.name())
}

/// A heading's name: without the package if it is this one.
fn name(full: &str) -> String {
    let own = full.strip_prefix(PACKAGE);
    own.map_or(full, |name| name.trim_start_matches('.'))
        .to_owned()
}

fn link(name: &str) -> String {
    format!("[{name}](#{})", markdown::anchor(name))
}

fn type_of(field: &FieldDescriptor) -> String {
    if let Kind::Message(entry) = field.kind()
        && entry.is_map_entry()
    {
        let key = one(&entry.map_entry_key_field());
        let value = one(&entry.map_entry_value_field());
        return format!("map of {key} to {value}");
    }
    let one = one(field);
    match field.cardinality() {
        Cardinality::Repeated => format!("list of {one}"),
        _ if field.field_descriptor_proto().proto3_optional() => format!("optional {one}"),
        _ => one,
    }
}

fn one(field: &FieldDescriptor) -> String {
    match field.kind() {
        Kind::Message(message) => link_within(message.full_name()),
        Kind::Enum(enumeration) => link_within(enumeration.full_name()),
        scalar => format!("{scalar:?}"),
    }
}

/// What is another package's is not described here.
fn link_within(full: &str) -> String {
    if full.starts_with(PACKAGE) {
        link(&name(full))
    } else {
        full.to_owned()
    }
}
