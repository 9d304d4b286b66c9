//! KEDA's `ExternalScaler`, which scales pools of workers.

use crate::{
    app::App,
    control::scale_pool::{self, Pool},
};
use futures::{StreamExt, stream::BoxStream};
use std::sync::Arc;
use taskyard_proto::externalscaler::{
    GetMetricSpecResponse, GetMetricsRequest, GetMetricsResponse, IsActiveResponse, MetricSpec,
    MetricValue, ScaledObjectRef, external_scaler_server::ExternalScaler,
};
use tonic::{Request, Response, Status};

/// Name of the one metric.
const METRIC: &str = "taskyard-tasks";

/// The service.
#[derive(Clone)]
pub struct Scaler {
    app: Arc<App>,
}

impl Scaler {
    /// The service of this server.
    #[must_use]
    pub fn new(app: Arc<App>) -> Self {
        Self { app }
    }
}

#[tonic::async_trait]
impl ExternalScaler for Scaler {
    type StreamIsActiveStream = BoxStream<'static, Result<IsActiveResponse, Status>>;

    async fn is_active(
        &self,
        request: Request<ScaledObjectRef>,
    ) -> Result<Response<IsActiveResponse>, Status> {
        let pool = Pool::from_metadata(&request.get_ref().scaler_metadata)?;
        let result = scale_pool::measure(&self.app, &pool).await?.is_active();
        Ok(Response::new(IsActiveResponse { result }))
    }

    async fn stream_is_active(
        &self,
        request: Request<ScaledObjectRef>,
    ) -> Result<Response<Self::StreamIsActiveStream>, Status> {
        let pool = Pool::from_metadata(&request.get_ref().scaler_metadata)?;
        let answers = scale_pool::follow(&self.app, pool);
        let answers = answers.map(|answer| Ok(IsActiveResponse { result: answer? }));
        Ok(Response::new(answers.boxed()))
    }

    async fn get_metric_spec(
        &self,
        request: Request<ScaledObjectRef>,
    ) -> Result<Response<GetMetricSpecResponse>, Status> {
        let target = Pool::from_metadata(&request.get_ref().scaler_metadata)?.target;
        let spec = MetricSpec {
            metric_name: METRIC.to_owned(),
            target_size: rounded(target),
            target_size_float: target,
        };
        Ok(Response::new(GetMetricSpecResponse {
            metric_specs: vec![spec],
        }))
    }

    async fn get_metrics(
        &self,
        request: Request<GetMetricsRequest>,
    ) -> Result<Response<GetMetricsResponse>, Status> {
        let scaled = request.into_inner().scaled_object_ref.unwrap_or_default();
        let pool = Pool::from_metadata(&scaled.scaler_metadata)?;
        let total = scale_pool::measure(&self.app, &pool).await?.total();
        let value = MetricValue {
            metric_name: METRIC.to_owned(),
            metric_value: total,
            metric_value_float: precise(total),
        };
        Ok(Response::new(GetMetricsResponse {
            metric_values: vec![value],
        }))
    }
}

/// A target as older versions of KEDA read it, at least 1.
#[expect(
    clippy::cast_possible_truncation,
    reason = "targets are checked to be at most 10,000"
)]
fn rounded(target: f64) -> i64 {
    (target.round() as i64).max(1)
}

#[expect(
    clippy::cast_precision_loss,
    reason = "counts are far below what a double holds exactly"
)]
fn precise(count: i64) -> f64 {
    count as f64
}
