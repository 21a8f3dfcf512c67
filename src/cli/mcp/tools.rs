//! Which tools there are, and which of them a call means.

use std::sync::Arc;

use rmcp::{
    ErrorData, RoleServer, ServerHandler,
    handler::server::tool::{schema_for_input, schema_for_output},
    model::{
        CallToolRequestParams, CallToolResponse, CustomRequest, CustomResult, ErrorCode,
        Implementation, JsonObject, ListToolsResult, PaginatedRequestParams, ServerCapabilities,
        ServerConfig, Tool, ToolAnnotations,
    },
    schemars::JsonSchema,
    service::RequestContext,
};

use serde_json::Value;
use tokio::sync::Semaphore;

use super::{
    answer::{Answer, ProgramAnswer},
    arguments::{
        CreateSandbox, DeleteSandbox, ListFiles, ReadFile, RunCode, RunCommand, WriteFile, parse,
    },
    files::{self, ListAnswer, ReadAnswer, WrittenAnswer},
    lines::UNREADABLE,
    progress::Progress,
    run,
    sandboxes::{self, DeletedAnswer, SandboxAnswer},
    session::Session,
    trouble::Trouble,
};

/// Calls at once, which may each hold a message and an answer of megabytes.
const MAX_CALLS: usize = 64;

const INSTRUCTIONS: &str = "\
Runs code in sandboxes that have no network and reach nothing of this machine. run_code and run_command take a fresh \
sandbox for each call. To keep files and the variables of Python from call to call, make a sandbox with create_sandbox \
and give its sandbox_id to the others. Output is bounded: 8 KiB of the beginning and 8 KiB of the end of stdout, and as \
much of stderr, so write what is long into a file. Sandboxes end with this session.";

const RUN_CODE: &str = "\
Run code in a sandbox without network, and get what it writes. Without sandbox_id: a fresh sandbox, which is gone \
afterwards. With the sandbox_id of create_sandbox: files stay, and Python keeps its variables from call to call, shows \
the value of a last expression, and figures of matplotlib as images. Code of one sandbox's Python runs in turn. More \
than 16 KiB of output has its middle left out. A program that fails, or exceeds a limit, is an error that says how it \
ended.";

const RUN_COMMAND: &str = "\
Run a shell's line, or a program, in a sandbox without network, and get what it writes: in a fresh sandbox, or with \
sandbox_id in one of create_sandbox, beside what else runs there. More than 16 KiB of output has its middle left out. \
What it has started ends with it.";

const CREATE_SANDBOX: &str = "\
Take a sandbox that lives on, for several calls: its files stay, and Python keeps its variables. It ends with \
delete_sandbox, with this session, at the end of its lifetime, or when it was not used for its idle timeout.";

const WRITE_FILE: &str = "Write a file of a sandbox of create_sandbox: text, or bytes in base64.";

const READ_FILE: &str = "\
Read a file of a sandbox of create_sandbox: text as text, PNG, JPEG, GIF and WebP of up to 3 MiB as an image, anything \
else in base64. At most 16 KiB unless length asks for more; the answer says where to read on.";

const LIST_FILES: &str = "\
List a directory of a sandbox of create_sandbox, up to 500 entries of it.";

const DELETE_SANDBOX: &str = "\
End a sandbox of create_sandbox, with all that runs in it and its files.";

/// The tools of one session.
pub(super) struct Tools {
    session: Arc<Session>,
    structured: bool,
    calls: Semaphore,
}

impl Tools {
    /// Answers have structured content if it is `structured`.
    pub(super) fn new(session: Arc<Session>, structured: bool) -> Self {
        Self {
            session,
            structured,
            calls: Semaphore::new(MAX_CALLS),
        }
    }

    fn list(&self) -> Result<Vec<Tool>, String> {
        let only_looks = ToolAnnotations::new().read_only(true);
        let runs = ToolAnnotations::new().destructive(false);
        let ends = ToolAnnotations::new().destructive(true).idempotent(true);
        let writes = ends.clone();
        Ok(vec![
            self.tool::<RunCode, ProgramAnswer>("run_code", RUN_CODE, runs.clone())?,
            self.tool::<RunCommand, ProgramAnswer>("run_command", RUN_COMMAND, runs.clone())?,
            self.tool::<CreateSandbox, SandboxAnswer>("create_sandbox", CREATE_SANDBOX, runs)?,
            self.tool::<WriteFile, WrittenAnswer>("write_file", WRITE_FILE, writes)?,
            self.tool::<ReadFile, ReadAnswer>("read_file", READ_FILE, only_looks.clone())?,
            self.tool::<ListFiles, ListAnswer>("list_files", LIST_FILES, only_looks)?,
            self.tool::<DeleteSandbox, DeletedAnswer>("delete_sandbox", DELETE_SANDBOX, ends)?,
        ])
    }

    fn tool<I: JsonSchema + 'static, O: JsonSchema + 'static>(
        &self,
        name: &'static str,
        description: &'static str,
        annotations: ToolAnnotations,
    ) -> Result<Tool, String> {
        let mut tool = Tool::new(name, description, of_arguments(schema_for_input::<I>()?));
        // Sandboxes have no network.
        tool.annotations = Some(annotations.open_world(false));
        tool.output_schema = self.structured.then(|| plain(schema_for_output::<O>()));
        Ok(tool)
    }

    async fn call(
        &self,
        name: &str,
        arguments: Option<JsonObject>,
        progress: Option<&Progress>,
    ) -> Option<Result<Answer, Trouble>> {
        let session = &self.session;
        let Ok(_permit) = self.calls.try_acquire() else {
            return Some(Err(Trouble::TooManyCalls(MAX_CALLS)));
        };
        Some(match name {
            "run_code" => match parse::<RunCode>(arguments) {
                Ok(call) => run::code(session, call, progress).await,
                Err(trouble) => Err(trouble),
            },
            "run_command" => match parse::<RunCommand>(arguments) {
                Ok(call) => run::command(session, call, progress).await,
                Err(trouble) => Err(trouble),
            },
            "create_sandbox" => match parse::<CreateSandbox>(arguments) {
                Ok(call) => sandboxes::create(session, call).await,
                Err(trouble) => Err(trouble),
            },
            "write_file" => match parse::<WriteFile>(arguments) {
                Ok(call) => files::write(session, call).await,
                Err(trouble) => Err(trouble),
            },
            "read_file" => match parse::<ReadFile>(arguments) {
                Ok(call) => files::read(session, call).await,
                Err(trouble) => Err(trouble),
            },
            "list_files" => match parse::<ListFiles>(arguments) {
                Ok(call) => files::list(session, call).await,
                Err(trouble) => Err(trouble),
            },
            "delete_sandbox" => match parse::<DeleteSandbox>(arguments) {
                Ok(call) => sandboxes::delete(session, call).await,
                Err(trouble) => Err(trouble),
            },
            _ => return None,
        })
    }
}

impl ServerHandler for Tools {
    fn get_info(&self) -> ServerConfig {
        let capabilities = ServerCapabilities::builder().enable_tools().build();
        ServerConfig::new(capabilities)
            .with_server_info(Implementation::new("sandpool", env!("CARGO_PKG_VERSION")))
            .with_instructions(INSTRUCTIONS)
    }

    async fn list_tools(
        &self,
        _: Option<PaginatedRequestParams>,
        _: RequestContext<RoleServer>,
    ) -> Result<ListToolsResult, ErrorData> {
        let tools = self
            .list()
            .map_err(|error| ErrorData::internal_error(error, None))?;
        Ok(ListToolsResult::with_all_items(tools))
    }

    async fn call_tool(
        &self,
        call: CallToolRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        let token = context.meta.get_progress_token();
        let progress = token.map(|token| Progress::new(context.peer.clone(), token));
        let answered = tokio::select! {
            answered = self.call(&call.name, call.arguments, progress.as_ref()) => answered,
            // What was begun is dropped, and so cancelled on the server. Nobody waits for this answer.
            () = context.ct.cancelled() => {
                return Err(ErrorData::internal_error("the call was cancelled", None));
            }
        };
        let answer = match answered {
            Some(Ok(answer)) => answer,
            Some(Err(trouble)) => Answer::failed(&trouble),
            None => {
                let text = format!("there is no tool {:?}: see tools/list", call.name);
                return Err(ErrorData::invalid_params(text, None));
            }
        };
        Ok(answer.into_result(self.structured).into())
    }

    /// Whatever is no request that the SDK knows: one whose parameters it does not understand, too.
    async fn on_custom_request(
        &self,
        request: CustomRequest,
        _: RequestContext<RoleServer>,
    ) -> Result<CustomResult, ErrorData> {
        Err(match request.method.as_str() {
            UNREADABLE => {
                let params = request.params.unwrap_or_default();
                let code = params["code"].as_i64().and_then(|it| it.try_into().ok());
                let code = code.map_or(ErrorCode::INVALID_REQUEST, ErrorCode);
                let reason = params["reason"].as_str().unwrap_or_default();
                ErrorData::new(code, reason.to_owned(), None)
            }
            "tools/call" => ErrorData::invalid_params(
                "tools/call takes a name, which is a string, and arguments, which are an object",
                None,
            ),
            _ => ErrorData::new(ErrorCode::METHOD_NOT_FOUND, request.method, None),
        })
    }
}

/// The schema without what only Rust knows, such as the format "uint64", which clients complain of.
fn plain(schema: Arc<JsonObject>) -> Arc<JsonObject> {
    fn strip(value: &mut Value) {
        match value {
            Value::Object(object) => {
                object.retain(|key, value| key != "format" || !value.is_string());
                object.values_mut().for_each(strip);
            }
            Value::Array(values) => values.iter_mut().for_each(strip),
            _ => {}
        }
    }
    let mut schema = Arc::unwrap_or_clone(schema);
    schema.values_mut().for_each(strip);
    Arc::new(schema)
}

/// The schema of arguments, where what need not be given need not be told to be null as well: some clients
/// know of each argument one type.
fn of_arguments(schema: Arc<JsonObject>) -> Arc<JsonObject> {
    fn strip(value: &mut Value) {
        match value {
            Value::Object(object) => {
                if let Some(Value::Array(types)) = object.get_mut("type") {
                    types.retain(|it| it != "null");
                    if let [only] = &mut types[..] {
                        let only = only.take();
                        object.insert("type".to_owned(), only);
                    }
                }
                object.values_mut().for_each(strip);
            }
            Value::Array(values) => values.iter_mut().for_each(strip),
            _ => {}
        }
    }
    let mut schema = Arc::unwrap_or_clone(plain(schema));
    schema.values_mut().for_each(strip);
    Arc::new(schema)
}

#[cfg(test)]
mod tests {

    use super::*;
    use crate::cli::{client::ServerArgs, mcp::log::Log};

    fn tools(structured: bool) -> Vec<Tool> {
        let server = ServerArgs::of(&[]);
        let log = Log::start().unwrap();
        let session = Arc::new(Session::new(server, String::new(), log));
        Tools::new(session, structured).list().unwrap()
    }

    #[test]
    fn each_argument_is_described_and_no_schema_refers_to_another() {
        for tool in tools(true) {
            let schema = Value::Object((*tool.input_schema).clone());
            assert!(!schema.to_string().contains("$ref"), "{schema}");
            for (name, property) in schema["properties"].as_object().unwrap() {
                assert!(property["description"].is_string(), "{}.{name}", tool.name);
                assert!(property["type"].is_string(), "{}.{name}", tool.name);
            }
            let output = Value::Object((*tool.output_schema.unwrap()).clone());
            assert!(!output.to_string().contains("$ref"), "{output}");
            assert!(!output.to_string().contains("format"), "{output}");
        }
    }

    #[test]
    fn there_are_output_schemas_only_beside_structured_content() {
        assert!(tools(false).iter().all(|tool| tool.output_schema.is_none()));
    }
}
