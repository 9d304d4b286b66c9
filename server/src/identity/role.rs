//! Roles, and the rights that make them up.

/// What a credential stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Reads.
    Viewer,
    /// Reads, and changes tasks, files and sessions.
    Client,
    /// Reads, and answers questions, those for approvers included.
    Approver,
    /// Leases tasks and runs them, and passes on what they say.
    Worker,
    /// Everything.
    Admin,
}

/// What a method asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Right {
    /// To be anybody who is known.
    BeKnown,
    /// To read.
    Read,
    /// To answer questions.
    Answer,
    /// To change tasks, files and sessions.
    Change,
    /// To lease tasks, and to speak for those that one leases.
    Work,
    /// To change what holds for everybody, and to read who did what.
    Administer,
}

impl Role {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::Viewer,
        Self::Client,
        Self::Approver,
        Self::Worker,
        Self::Admin,
    ];

    /// As it is written in files and tokens.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Client => "client",
            Self::Approver => "approver",
            Self::Worker => "worker",
            Self::Admin => "admin",
        }
    }

    /// The role of that name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.as_str() == name)
    }

    /// Whether the role has a right.
    #[must_use]
    pub fn has(self, right: Right) -> bool {
        match right {
            Right::BeKnown => true,
            Right::Read => match self {
                Self::Viewer | Self::Client | Self::Approver | Self::Admin => true,
                Self::Worker => false,
            },
            Right::Answer => match self {
                Self::Client | Self::Approver | Self::Admin => true,
                Self::Viewer | Self::Worker => false,
            },
            Right::Change => match self {
                Self::Client | Self::Admin => true,
                Self::Viewer | Self::Approver | Self::Worker => false,
            },
            Right::Work => match self {
                Self::Worker | Self::Admin => true,
                Self::Viewer | Self::Client | Self::Approver => false,
            },
            Right::Administer => match self {
                Self::Admin => true,
                Self::Viewer | Self::Client | Self::Approver | Self::Worker => false,
            },
        }
    }

    /// Whether the role alone makes its holder an approver.
    #[must_use]
    pub fn approves(self) -> bool {
        match self {
            Self::Approver | Self::Admin => true,
            Self::Viewer | Self::Client | Self::Worker => false,
        }
    }
}

impl Right {
    /// The role to ask for by somebody who lacks the right: the least that has it.
    #[must_use]
    pub fn least_role(self) -> Role {
        match self {
            Self::BeKnown | Self::Read => Role::Viewer,
            Self::Answer | Self::Change => Role::Client,
            Self::Work => Role::Worker,
            Self::Administer => Role::Admin,
        }
    }
}
