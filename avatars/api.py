"""`/api/v1/agents`."""

from __future__ import annotations

import uuid

from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from avatars.models import Agent
from avatars.serializers import AgentDetailSerializer, AgentSerializer
from molts.api import NumberedPages, PageQuery
from projects.api import ProjectView


class AgentList(ProjectView):
    pagination_class = NumberedPages

    @extend_schema(
        operation_id="agents_list", tags=["agents"], parameters=[PageQuery], responses=AgentSerializer(many=True)
    )
    def get(self, request: Request) -> Response:
        """Your agents, by name."""
        self.read_query(PageQuery)
        agents = Agent.objects.for_actor(self.actor).order_by("name", "pk")
        return self.paginate(agents, lambda page: AgentSerializer(page, many=True).data)


class AgentDetail(ProjectView):
    @extend_schema(operation_id="agents_get", tags=["agents"], responses=AgentDetailSerializer)
    def get(self, request: Request, agent_id: uuid.UUID) -> Response:
        """One agent."""
        agent = self.find(Agent.objects.select_related("voice", "avatar"), agent_id)
        return Response(AgentDetailSerializer(agent).data)
