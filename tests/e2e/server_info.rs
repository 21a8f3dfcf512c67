//! ServerService says which server this is.

use sandpool::proto::v1::GetServerInfoRequest;

use crate::harness::*;

#[tokio::test]
async fn a_server_has_the_version_of_its_program() {
    let server = shared();
    let client = server.client().await;
    let mut service = client.server.clone();
    let info = service.get_server_info(GetServerInfoRequest {}).await;
    let printed = output(sandpool(&server, &["--version"])).await.stdout;
    let version = info.unwrap().into_inner().version;
    assert_eq!(
        String::from_utf8(printed).unwrap(),
        format!("sandpool {version}\n")
    );
}
